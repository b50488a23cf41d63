"""Rank collapse: known rates, switches that are exact, and the paper's finding."""

from dataclasses import replace

import pytest
import torch
from tests.analysis.conftest import SIDE_PX, TIMM, exhibit_of, inputs_of, isotropic
from torch import nn

from metaformer.analysis import Exhibit, Journal
from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.switches import subtracting_mixers, without_mlp, without_residual
from metaformer.analysis.probes.rank_collapse import (
    CASES,
    Case,
    RankCollapse,
    composite_norm,
    fit_fall,
    measure_descent,
    relative_residual,
)
from metaformer.block.norm import ModifiedLayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import TOKEN_MIXERS, AttentionConfig, PoolingConfig, RandomMixingConfig
from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer


class Mixing(nn.Module):
    """A block whose branch multiplies what tokens do not share by a factor, or by a power of its size."""

    def __init__(self, factor: float, power: int) -> None:
        super().__init__()
        self.norm1, self.token_mixer, self.norm2, self.channel_mlp = (nn.Identity() for _ in range(4))
        self.weight = nn.Parameter(torch.ones(3))
        self.factor, self.power = factor, power
        self.token_mixer.register_forward_hook(self.mix)

    def mix(self, _module, _args, x):
        mean = x.mean(dim=(2, 3), keepdim=True)
        size = relative_residual(x.flatten(2).transpose(1, 2))[:, None, None, None]
        return mean + self.factor * (x - mean) * size ** (self.power - 1)

    def forward(self, x):
        x = x + self.token_mixer(self.norm1(x))
        return x + self.channel_mlp(self.norm2(x))


def test_the_norm_is_the_root_of_both_sums():
    x = torch.tensor([[[1.0, -2.0], [3.0, 0.0], [0.0, 5.0]]])
    assert composite_norm(x).item() == pytest.approx((7 * 5) ** 0.5)


def test_a_fixed_matrix_falls_by_its_second_eigenvalue():
    images = 5 + torch.randn(2, 3, 4, 4)
    model = nn.Sequential(*(Mixing(0.5, 1) for _ in range(12))).eval()
    fall = fit_fall(measure_descent(model, [(images, torch.zeros(2))], CASES[0]).of_stage)
    assert fall.factor == pytest.approx(0.5, rel=0.02)
    assert fall.order == pytest.approx(1, abs=0.02)


def test_a_residual_that_is_cubed_has_order_3():
    model = nn.Sequential(*(Mixing(0.9, 3) for _ in range(4))).eval()
    fall = fit_fall(measure_descent(model, [(5 + torch.randn(2, 3, 4, 4), torch.zeros(2))], CASES[0]).of_stage)
    assert fall.order == pytest.approx(3, abs=0.1)
    assert fall.num_blocks >= 2


def test_a_residual_that_stays_has_no_order():
    assert fit_fall([-0.1] * 6).order is None
    assert fit_fall([-0.1] * 6).factor == pytest.approx(1)


@pytest.mark.parametrize("mixer", ["attention", "random", "depthwise_conv"])
def test_switching_off_by_hooks_is_building_without(mixer):
    config = replace(isotropic(TOKEN_MIXERS[mixer](), depth=2), norm=ModifiedLayerNormConfig(eps=1e-12))
    model = MetaFormer(config).double().eval()
    bare = replace(config, residuals=(ResidualConfig(skip=False),), channel_mlp=None)
    bare_model = MetaFormer(bare).double().eval()
    bare_model.load_state_dict(model.state_dict(), strict=False)
    images = torch.randn(2, 3, SIDE_PX, SIDE_PX, dtype=torch.float64)
    blocks = find_blocks(model)
    with torch.no_grad(), without_residual(model, blocks), without_mlp(model, blocks):
        switched = model.forward_features(images)
    expected = bare_model.forward_features(images)
    # Up to one number a sample, which the last norm takes away.
    torch.testing.assert_close(switched, expected, rtol=1e-5, atol=1e-5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_pooling_is_known_to_subtract_its_input_and_others_are_not():
    images = torch.randn(2, 3, SIDE_PX, SIDE_PX)
    for name, mixer in TOKEN_MIXERS.items():
        model = MetaFormer(isotropic(mixer(), depth=1)).eval()
        found = subtracting_mixers(model, find_blocks(model), images)
        assert bool(found) == (name == "pooling"), name


def orders(exhibit, images):
    found = RankCollapse(num_seeds=3, num_images=4).measure((exhibit,), inputs_of(images), Journal())
    return found.numbers, found


def test_the_papers_finding_on_models_with_first_weights(inputs):
    """Attention alone falls doubly exponentially, fixed matrices geometrically, the residual prevents both."""
    images = inputs.first_images(4)
    attention, shown = orders(exhibit_of(isotropic(AttentionConfig()), "attention"), images)
    alone, whole = CASES[0], CASES[-1]
    assert attention[f"order of attention, untrained, {alone}"] == pytest.approx(3, abs=0.5)
    assert attention[f"factor of attention, untrained, {whole}"] > 0.9
    assert "falls doubly exponentially, order" in shown.finding
    for name, mixer in {"pooling": PoolingConfig(), "random": RandomMixingConfig()}.items():
        found, shown = orders(exhibit_of(isotropic(mixer, depth=12), name), images)
        assert found[f"order of {name}, untrained, {alone}"] == pytest.approx(1, abs=0.35)
        assert found[f"factor of {name}, untrained, {alone}"] < 0.96
        assert "falls geometrically" in shown.finding
        if name == "random":
            # x + (pool(x) - x) is pooling again: a residual that the mixer subtracts prevents little.
            assert found[f"factor of {name}, untrained, {whole}"] > 4 * found[f"factor of {name}, untrained, {alone}"]
    assert len(shown.panels[0].curves) == len(CASES)
    assert all(curve.low and curve.high for curve in shown.panels[0].curves)


def test_timms_vision_transformer_collapses_too(inputs):
    model = TIMM["deit_tiny"]().eval()
    logs = measure_descent(model, inputs.first_batches(2), CASES[0]).of_stage
    assert fit_fall(logs).order == pytest.approx(3, abs=0.6)
    kept = measure_descent(model, inputs.first_batches(2), Case(residual=True, mlp=True)).of_stage
    assert fit_fall(kept).factor > 0.9


def test_blocks_that_end_with_an_activation_are_refused(inputs):
    with pytest.raises(ConfigError, match=r"those of ResNet end with an activation"):
        RankCollapse().measure((Exhibit(name="r", model=TIMM["resnet18"]().eval()),), inputs, Journal())
