"""How far models look: known fields, uniform and local attention, branches of known size."""

from dataclasses import replace

import pytest
import torch
from tests.analysis.conftest import TIMM, exhibit_of, inputs_of, isotropic
from torch import nn

from metaformer.analysis import Exhibit, Journal
from metaformer.analysis.probes.attention_distance import AttentionDistance, mean_distance, measure_distances
from metaformer.analysis.probes.receptive_field import Field, ReceptiveField, contribution_of
from metaformer.analysis.probes.residual_ratio import ResidualRatio
from metaformer.block.norm import LayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import AttentionConfig, IdentityConfig, PoolingConfig
from metaformer.core.errors import ConfigError


def test_the_field_of_convolutions_is_their_window():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 5, padding=2)).eval()
    contribution = contribution_of(model, "1", torch.randn(2, 3, 15, 15))
    assert (contribution > 0).nonzero().min().item() == 4
    assert (contribution > 0).nonzero().max().item() == 10
    assert Field(path="1", contribution=contribution).side_px(1.0) == 7


def test_a_square_of_half_the_contributions():
    field = Field(path="", contribution=torch.ones(8, 8))
    assert field.side_px(0.25) == 4
    assert field.side_px(1.0) == 8


def test_the_untrained_twin_and_the_size_are_always_there(inputs):
    config = isotropic(PoolingConfig(), depth=2)
    trained = replace(exhibit_of(config), is_trained=True)
    found = ReceptiveField(num_images=2).measure((trained,), inputs, Journal())
    assert [row[1] for row in found.panels[0].rows] == ["trained", "untrained"]
    assert found.panels[0].rows[0][3] == "64 x 64"
    assert "At 64 x 64 px" in found.finding


def test_attention_looks_farther_than_pooling_and_pooling_than_identity(inputs):
    mixers = {"attention": AttentionConfig(), "pooling": PoolingConfig(), "identity": IdentityConfig()}
    # The paper's norm looks at the whole map, whatever the mixer does.
    configs = {name: replace(isotropic(mixer, depth=2), norm=LayerNormConfig()) for name, mixer in mixers.items()}
    exhibits = tuple(exhibit_of(config, name) for name, config in configs.items())
    found = ReceptiveField(num_images=2).measure(exhibits, inputs, Journal()).numbers
    sides = [found[f"side of 100% of {name}, untrained"] for name in mixers]
    # The middle is two patches of 8 pixels wide, and each pooling adds one on either side.
    assert sides[1:] == [16 + 2 * 2 * 8, 16]
    assert sides[0] == 64


def test_distances_of_uniform_and_of_own_attention():
    positions = torch.tensor([[0.0, 0.0], [0.0, 16.0], [16.0, 0.0], [16.0, 16.0]])
    own, uniform = torch.eye(4), torch.full((4, 4), 0.25)
    attention = torch.stack([own, uniform])[None]
    expected = (0 + 16 + 16 + 16 * 2**0.5) / 4
    torch.testing.assert_close(mean_distance(attention, positions), torch.tensor([0.0, expected]))
    # A class token takes its share away, and the rest is not made whole again.
    with_class = torch.full((1, 1, 5, 5), 0.2)
    assert mean_distance(with_class, positions, num_prefix=1).item() == pytest.approx(0.8 * expected)


def test_fused_and_written_out_attention_give_the_same(inputs):
    model = TIMM["deit_tiny"]().eval()
    images = inputs.first_images(2)
    fused = measure_distances(model, images)
    for block in model.blocks:
        block.attn.fused_attn = False
    written_out = measure_distances(model, images)
    assert list(fused) == [f"blocks.{index}.attn" for index in range(6)]
    for path, value in fused.items():
        assert len(value) == 3
        torch.testing.assert_close(value, written_out[path], rtol=1e-4, atol=1e-4)
    # With first weights attention is almost uniform over 4 x 4 patches of 16 pixels.
    places = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)) * 16
    assert fused["blocks.0.attn"].mean().item() == pytest.approx(float(torch.cdist(places, places).mean()), rel=0.1)


def test_hybrids_and_windows_are_measured_and_models_without_attention_are_told(inputs):
    ours = exhibit_of(isotropic(AttentionConfig(), depth=2), "ours")
    swin = Exhibit(name="swin", model=TIMM["swin_tiny"]().eval())
    found = AttentionDistance().measure((ours, swin), inputs, Journal())
    assert len(found.panels[1].curves[0].y) == 2
    assert len(found.panels[1].curves[1].y) == 12
    # Windows of 2 x 2 patches of 4 pixels.
    assert found.numbers["first of swin"] < 4 * 2**0.5
    for exhibit in (
        exhibit_of(isotropic(PoolingConfig(), depth=1)),
        Exhibit(name="r", model=TIMM["resnet18"]().eval()),
    ):
        with pytest.raises(ConfigError, match="there is no attention to measure"):
            AttentionDistance().measure((exhibit,), inputs, Journal())


def test_the_ratio_of_a_branch_follows_its_layer_scale(inputs):
    def ratio(scale):
        config = replace(isotropic(IdentityConfig(), depth=2), residuals=(ResidualConfig(layer_scale_init=scale),))
        torch.manual_seed(3)
        return ResidualRatio().measure((exhibit_of(config),), inputs, Journal()).numbers["mean ratio of mixer of ours"]

    assert ratio(1e-4) == pytest.approx(10 * ratio(1e-5), rel=0.02)


def test_ratios_of_timms_models(timm_model, inputs):
    found = ResidualRatio().measure((Exhibit(name="timm", model=timm_model),), inputs, Journal())
    expected = {"ResNet": {"block"}}.get(type(timm_model).__name__, {"mixer", "MLP"})
    assert set(found.numbers) == {f"mean ratio of {kind} of timm" for kind in expected}


def test_a_layer_without_a_map_gets_one_line():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    inputs = inputs_of(torch.randn(2, 3, 8, 8))
    with pytest.raises(ConfigError, match=r"m: the output of '3' has no spatial map: its shape is \(2, 2\)"):
        ReceptiveField(layer="3").measure((Exhibit(name="m", model=model),), inputs, Journal())
