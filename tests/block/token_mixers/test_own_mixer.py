"""A token mixer from outside: written, trained and stored without touching the package."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import metaformer as mf
from metaformer.core.configs import from_dict, to_dict
from metaformer.models.weights import read_weights, save_weights


@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    step: int = 1  # tokens

    def build(self, site):
        return Shift(self.step)


class Shift(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x):
        return x.roll(self.step, dims=-1) - x


@pytest.fixture
def config(small):
    return replace(small, token_mixers=(ShiftConfig(step=2), *small.token_mixers[1:]))


def test_it_runs_in_a_model_and_learns(config, images):
    model = mf.MetaFormer(config)
    model(images).square().sum().backward()
    assert isinstance(model.stages[0].blocks[0].token_mixer, Shift)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_its_cost_is_that_of_a_model_with_another_free_mixer(config, small):
    assert mf.profile(mf.MetaFormer(config), 64).macs == mf.profile(mf.MetaFormer(small), 64).macs


def test_its_config_comes_back_from_json_once_named(config):
    text = json.dumps(to_dict(config))
    assert from_dict(mf.MetaFormerConfig, json.loads(text), named=[ShiftConfig]) == config


@pytest.mark.usefixtures("own_token_mixer_table")
def test_registered_its_weights_come_back_from_a_file(config, images, tmp_path):
    mf.TOKEN_MIXERS.add("shift", ShiftConfig)
    model = mf.MetaFormer(config).eval()
    save_weights(model, tmp_path / "model.safetensors")
    assert read_weights(tmp_path).config == config
    assert torch.equal(mf.create_model(config, weights=tmp_path).eval()(images), model(images))
