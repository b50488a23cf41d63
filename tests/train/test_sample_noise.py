import pytest
import torch
from torch import nn

from metaformer.block.residual import Residual, ResidualConfig
from metaformer.train.processes import DropPathNoise

NOW = {"seed": 0, "epoch": 2, "step": 5}


def residuals(*rates):
    return nn.Sequential(*(ResidualConfig().build(4, rate) for rate in rates)).append(nn.Linear(1, 1)).train()


def numbers(model, part, **now):
    noise = DropPathNoise(model, 8)
    noise.set(part, **(NOW | now))
    return [m.drop_path_noise if m.drop_path_noise is None else m.drop_path_noise.clone() for m in model[:-1]]


@pytest.mark.parametrize(
    "parts", [[(0, 4), (4, 8)], [(0, 2), (2, 4), (4, 6), (6, 8)], [(0, 3), (3, 6), (6, 8)]], ids=str
)
@pytest.mark.parametrize("same", [True, False], ids=["parts of a process", "processes"])
def test_parts_of_a_batch_see_the_numbers_of_the_whole(parts, same):
    model = residuals(0.1, 0.5)
    whole = numbers(model, slice(0, 8))
    noise = DropPathNoise(model, 8)
    found = []
    for part in parts:
        noise = noise if same else DropPathNoise(model, 8)
        noise.set(slice(*part), **NOW)
        found.append([m.drop_path_noise.clone() for m in model[:-1]])
    for expected, actual in zip(whole, map(torch.cat, zip(*found, strict=True)), strict=True):
        assert torch.equal(actual, expected)


def test_every_residual_and_step_has_numbers_of_its_own():
    model = residuals(0.1, 0.5)
    first, second = numbers(model, slice(0, 8))
    assert not torch.equal(first, second)
    for other in ({"seed": 1}, {"epoch": 3}, {"step": 6}):
        assert not torch.equal(numbers(model, slice(0, 8), **other)[0], first)
    assert torch.equal(numbers(model, slice(0, 8))[0], first)


def test_the_same_memory_serves_every_step():
    model = residuals(0.5)
    noise = DropPathNoise(model, 8)
    noise.set(slice(0, 8), **NOW)
    place = model[0].drop_path_noise.data_ptr()
    noise.set(slice(0, 8), **(NOW | {"step": 6}))
    assert model[0].drop_path_noise.data_ptr() == place


def test_a_rate_of_zero_gets_none_and_changes_no_other():
    model = residuals(0.0, 0.5)
    none, some = numbers(model, slice(0, 8))
    assert none is None
    assert torch.equal(some, numbers(residuals(0.5), slice(0, 8))[0])
    assert numbers(residuals(0.0), slice(0, 8)) == [None]


def test_the_numbers_decide_which_samples_are_dropped():
    model = residuals(0.5)
    noise = DropPathNoise(model, 8)
    noise.set(slice(0, 8), **NOW)
    numbers = model[0].drop_path_noise
    branch = torch.ones(8, 4, 1, 1)
    out = model[0](torch.zeros_like(branch), branch)
    assert torch.equal(out[:, 0, 0, 0], torch.where(numbers < 0.5, 0.0, 2.0))
    assert 0 < out.sum() < 64


def test_the_model_draws_for_itself_afterwards():
    model = residuals(0.5)
    noise = DropPathNoise(model, 8)
    noise.set(slice(0, 2), **NOW)
    noise.clear()
    assert all(m.drop_path_noise is None for m in model if isinstance(m, Residual))
    model[0](torch.zeros(5, 4, 1, 1), torch.ones(5, 4, 1, 1))
