"""Frequencies of features and of mixers: known fields, analytic responses, odd sides, odd requests."""

import math

import pytest
import torch
from tests.analysis.conftest import exhibit_of, inputs_of, isotropic
from torch import nn

from metaformer.analysis import Exhibit, Journal
from metaformer.analysis.anatomy.features import Layout
from metaformer.analysis.probes.feature_frequencies import FeatureFrequencies, log_amplitude, map_variance
from metaformer.analysis.probes.frequency_response import FrequencyResponse, impulse_response
from metaformer.block.site import Site
from metaformer.block.token_mixers import AttentionConfig, DepthwiseConvConfig, IdentityConfig, PoolingConfig
from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer


def wave(side, frequency):
    places = torch.arange(side) / side * 2 * math.pi * frequency
    return torch.cos(places[:, None] + places[None, :])[None, None]


@pytest.mark.parametrize("side", [4, 7, 14, 15])
def test_a_wave_on_the_diagonal_stands_at_its_frequency(side):
    values = log_amplitude(4 + 2 * wave(side, 1))
    assert len(values) == math.ceil(side / 2)
    assert values[0] == 0
    # Half of the amplitude of a cosine is at the negative frequency.
    assert values[1].item() == pytest.approx(math.log(1 / 4), abs=1e-4)
    assert (values[2:] < -5).all()


def test_a_constant_factor_cancels_and_oblong_maps_are_refused():
    x = torch.randn(2, 3, 7, 7)
    torch.testing.assert_close(log_amplitude(x), log_amplitude(10 * x), rtol=1e-3, atol=1e-3)
    with pytest.raises(ConfigError, match=r"needs square maps; got 4x6"):
        log_amplitude(torch.randn(1, 1, 4, 6))


def test_the_variance_is_over_places():
    assert map_variance(torch.arange(4.0).view(1, 1, 2, 2).expand(3, 5, 2, 2)) == pytest.approx(1.25)
    assert map_variance(torch.randn(3, 5, 1, 1).expand(3, 5, 4, 4)) == pytest.approx(0, abs=1e-12)


def response_of(config, grid, dim=6):
    mixer = config.build(Site(dim=dim, grid=grid, stage=0, index=0)).double().eval()
    x = torch.randn(1, dim, *grid, dtype=torch.float64)
    layout = Layout(path="mixer", channels_first=True, num_prefix=0, grid=grid)
    return mixer, impulse_response(mixer, x, layout)


def window_gain(size, side):
    """The transform of a mean over `size` places, at the frequencies of a map of that side."""
    reach = torch.arange(size) - size // 2
    frequencies = torch.arange(side // 2 + 1, dtype=torch.float64)
    return torch.cos(2 * math.pi * frequencies[:, None] * reach / side).sum(dim=1) / size


@pytest.mark.parametrize("grid", [(11, 11), (10, 13)], ids=str)
@pytest.mark.parametrize("size", [3, 5])
def test_pooling_has_its_analytic_response(size, grid):
    _, response = response_of(PoolingConfig(pool_size=size), grid)
    expected = window_gain(size, grid[0])[:, None] * window_gain(size, grid[1])[None, :]
    torch.testing.assert_close(response.alone, (expected - 1).abs(), rtol=1e-6, atol=1e-9)
    # The residual connection adds what pooling subtracts.
    torch.testing.assert_close(response.with_residual, expected.abs(), rtol=1e-6, atol=1e-9)


def test_a_depthwise_convolution_has_the_response_of_its_kernels():
    conv, response = response_of(DepthwiseConvConfig(), (8, 8))
    kernels = torch.zeros(6, 8, 8, dtype=torch.float64)
    kernels[:, :3, :3] = conv.weight[:, 0].detach()
    expected = torch.fft.fft2(kernels).abs().square().mean(dim=0).sqrt()
    # The kernel is correlated with the map: frequencies change their sign, gains of the mean do not.
    flipped = torch.fft.fft2(kernels.flip(1, 2)).abs().square().mean(dim=0).sqrt()
    torch.testing.assert_close(flipped, expected)
    torch.testing.assert_close(response.alone, expected[:5, :5], rtol=1e-6, atol=1e-9)


def test_a_dense_convolution_and_identity():
    conv = nn.Conv2d(4, 7, 1).double()
    square = nn.Conv2d(4, 4, 1).double()
    layout = Layout(path="conv", channels_first=True, num_prefix=0, grid=(6, 6))
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    gain = impulse_response(square, x, layout).alone
    norm = square.weight[:, :, 0, 0].square().sum(dim=0).mean().sqrt()
    torch.testing.assert_close(gain, norm.expand(4, 4).detach(), rtol=1e-6, atol=1e-9)
    with pytest.raises(ConfigError, match="keeps the shape of its input"):
        impulse_response(conv, x, layout)
    _, response = response_of(IdentityConfig(), (5, 5))
    torch.testing.assert_close(response.alone, torch.ones(3, 3, dtype=torch.float64))


def test_attention_is_a_low_pass_for_differences_between_tokens():
    """arXiv:2202.06709: what attention adds to a token from others is smooth, what convolution adds is not."""
    exhibit = exhibit_of(isotropic(AttentionConfig(), depth=1), "attention")
    found = FrequencyResponse().measure((exhibit,), inputs_of(torch.randn(2, 3, 64, 64)), Journal())
    assert found.numbers["highest over zero of attention stages.0.blocks.0.token_mixer, alone"] < 0.2
    pooling = exhibit_of(isotropic(PoolingConfig(), depth=1), "pooling")
    found = FrequencyResponse().measure((pooling,), inputs_of(torch.randn(2, 3, 64, 64)), Journal())
    assert found.numbers["highest over zero of pooling stages.0.blocks.0.token_mixer, alone"] > 1e6
    assert found.numbers["highest over zero of pooling stages.0.blocks.0.token_mixer, with residual"] < 0.2


def test_pooling_blocks_lower_high_frequencies(inputs):
    pooling = exhibit_of(isotropic(PoolingConfig(pool_size=5), depth=3), "pooling")
    identity = exhibit_of(isotropic(IdentityConfig(), depth=3), "identity")
    found = FeatureFrequencies().measure((pooling, identity), inputs, Journal()).numbers
    assert found["amplitude change by mixer of pooling"] < found["amplitude change by mixer of identity"] - 0.03


def test_any_model_has_both(timm_model, inputs):
    exhibit = Exhibit(name="timm", model=timm_model)
    features = FeatureFrequencies().measure((exhibit,), inputs, Journal())
    num_blocks = len(features.panels[0].curves[0].y)
    assert num_blocks == {"ResNet": 8, "VisionTransformer": 12, "SwinTransformer": 24}[type(timm_model).__name__]
    layers = ("layer1.0.conv1",) if type(timm_model).__name__ == "ResNet" else ()
    response = FrequencyResponse(layers=layers).measure((exhibit,), inputs, Journal())
    assert all(value is not None for curve in response.panels[0].curves for value in curve.y)


def test_our_models_need_square_images(small):
    oblong = inputs_of(torch.randn(4, 3, 64, 96))
    with pytest.raises(ConfigError, match="needs square maps; got 16x24"):
        FeatureFrequencies().measure((Exhibit(name="ours", model=MetaFormer(small).eval()),), oblong, Journal())
