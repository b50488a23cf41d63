import re

import pytest
import torch

from metaformer.block.residual import LeftOut, ResidualConfig
from metaformer.core.errors import ConfigError

DIM = 3


@pytest.fixture
def x():
    return torch.randn(4, DIM, 2, 5)


@pytest.fixture
def branch():
    return torch.randn(4, DIM, 2, 5)


def build(drop_path=0.0, **options):
    residual = ResidualConfig(**options).build(DIM, drop_path)
    for parameter in residual.parameters():
        torch.nn.init.normal_(parameter)
    return residual


def test_plain_is_a_sum(x, branch):
    assert torch.equal(build()(x, branch), x + branch)


def test_layer_scale_multiplies_the_branch_per_channel(x, branch):
    residual = build(layer_scale_init=1.0)
    expected = torch.stack([x[:, c] + residual.layer_scale[c] * branch[:, c] for c in range(DIM)], dim=1)
    torch.testing.assert_close(residual(x, branch), expected)


def test_res_scale_multiplies_the_input_per_channel(x, branch):
    residual = build(res_scale_init=1.0)
    expected = torch.stack([residual.res_scale[c] * x[:, c] + branch[:, c] for c in range(DIM)], dim=1)
    torch.testing.assert_close(residual(x, branch), expected)


def test_both_scales_work_together(x, branch):
    residual = build(layer_scale_init=1.0, res_scale_init=1.0)
    res, layer = (scale[None, :, None, None] for scale in (residual.res_scale, residual.layer_scale))
    torch.testing.assert_close(residual(x, branch), res * x + layer * branch)


def test_without_skip_the_branch_is_all(x, branch):
    assert torch.equal(build(skip=False)(x, branch), branch)


def test_without_skip_layer_scale_stays(x, branch):
    residual = build(skip=False, layer_scale_init=1.0)
    torch.testing.assert_close(residual(x, branch), residual.layer_scale[:, None, None] * branch)


def test_without_skip_nothing_is_dropped(x, branch):
    residual = build(drop_path=0.9, skip=False)
    assert torch.equal(residual(x, branch), branch)


def test_in_training_drop_path_drops_the_branch_and_never_the_input():
    x, branch = torch.randn(64, DIM, 1, 1), torch.full((64, DIM, 1, 1), 4.0)
    added = build(drop_path=0.5)(x, branch) - x
    assert {value.item() for value in added.round(decimals=4).unique()} == {0.0, 8.0}


def test_in_evaluation_drop_path_does_nothing(x, branch):
    assert torch.equal(build(drop_path=0.9).eval()(x, branch), x + branch)


@pytest.mark.parametrize("field", ["layer_scale", "res_scale"])
def test_scales_start_at_their_first_value(field):
    residual = ResidualConfig(**{f"{field}_init": 0.25}).build(DIM, 0.0)
    assert torch.equal(getattr(residual, field), torch.full((DIM,), 0.25))


def test_without_scales_there_are_no_parameters():
    assert list(build().parameters()) == []


def test_res_scale_without_skip_is_refused():
    message = (
        "ResidualConfig.res_scale_init scales the input that the residual connection adds, and skip=False "
        "leaves that out. Set res_scale_init to None."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ResidualConfig(skip=False, res_scale_init=1.0)


def test_a_sub_block_that_is_left_out_passes_its_input_on(x, branch):
    assert LeftOut()(x, branch) is x
