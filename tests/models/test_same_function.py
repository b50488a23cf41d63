"""Weights that say which model they are of load only into a model that computes the same."""

import re
from dataclasses import replace

import pytest
import torch

from metaformer.block.norm import LayerNormConfig
from metaformer.block.token_mixers import IdentityConfig, PoolingConfig
from metaformer.core.errors import ConfigError
from metaformer.models.create import create_model
from metaformer.models.load_weights import load_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.same_function import differences
from metaformer.models.weights import save_weights


@pytest.fixture
def file(small, tmp_path):
    save_weights(MetaFormer(small), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


OTHER = {
    "identity": (
        lambda c: {"token_mixers": (IdentityConfig(),) * 4},
        "token_mixers is pooling there and identity here",
    ),
    "pool size": (
        lambda c: {"token_mixers": (PoolingConfig(pool_size=9),) * 4},
        "token_mixers.pool_size is 3 there",
    ),
    "relu": (
        lambda c: {"channel_mlp": replace(c.channel_mlp, activation="relu")},
        "channel_mlp.activation is 'gelu' there and 'relu' here",
    ),
    "no skip": (
        lambda c: {"residuals": (replace(c.residuals[0], skip=False),)},
        "residuals.skip is True there",
    ),
    "eps": (lambda c: {"norm": replace(c.norm, eps=1e-3)}, "norm.eps is 1e-05 there and 0.001 here"),
    "layer norm": (lambda c: {"norm": LayerNormConfig()}, "norm is modified_layer_norm there and layer_norm here"),
    "stride": (
        lambda c: {"patch_embeddings": (c.patch_embeddings[0], *(replace(c.patch_embeddings[1], stride=1),) * 3)},
        "patch_embeddings.stride is 2 there and 1 here",
    ),
}


@pytest.mark.parametrize(("change", "message"), OTHER.values(), ids=OTHER)
def test_a_model_that_computes_something_else_is_refused_and_left_alone(small, file, change, message):
    other = replace(small, **change(small))
    for call in (lambda: create_model(other, weights=file), lambda: load_weights(MetaFormer(other), file)):
        with pytest.raises(ConfigError, match=f"computes something else: .*{re.escape(message)}"):
            call()


def test_not_strict_loads_and_says_it(small, file):
    model = MetaFormer(replace(small, token_mixers=(IdentityConfig(),) * 4))
    report = load_weights(model, file, strict=False)
    assert report.doubts == [
        "the weights are of a model that computes something else: token_mixers is pooling there and identity here"
    ]
    assert "WARNING" in str(report)


def test_what_only_training_and_preparation_use_may_differ(small, file):
    other = replace(
        small,
        drop_path=0.3,
        init_std=None,
        init_convolutions=True,
        channel_mlp=replace(small.channel_mlp, dropout=0.2),
        residuals=tuple(replace(small.residuals[0], layer_scale_init=0.1) for _ in range(4)),
        num_classes=3,
        image_size=(96, 96),
    )
    assert differences(small, other) == []
    assert create_model(other, weights=file, num_classes=3).config.drop_path == 0.3


def test_whole_numbers_for_real_ones_and_numbers_that_become_infinite_are_refused(small, tmp_path):
    state = MetaFormer(small).state_dict()
    name = "stages.0.patch_embed.conv.weight"
    for tensor, message in (
        (state[name].to(torch.int8), "is of int8 there and of float32 here. Save them as real numbers."),
        (state[name].double() + 1e300, "has numbers that are infinite in float32"),
    ):
        torch.save(state | {name: tensor}, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match=re.escape(f"{name} {message}")):
            create_model(small, weights=tmp_path / "x.pth")


def test_weights_that_are_no_numbers_are_told(small, tmp_path, caplog):
    state = MetaFormer(small).state_dict()
    state["head.fc.bias"][0] = float("nan")
    torch.save(state, tmp_path / "x.pth")
    create_model(small, weights=tmp_path / "x.pth")
    assert "NaN or infinity in head.fc.bias: the model's scores will be that too." in caplog.text
