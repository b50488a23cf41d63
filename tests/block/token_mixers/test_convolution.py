import re

import pytest
import torch
import torch.nn.functional as F

from metaformer.block.norm import BatchNormConfig
from metaformer.block.token_mixers import ConvolutionConfig, DepthwiseConvConfig
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_each_token_is_the_sum_of_its_windows_products(site, kernel_size):
    mixer = ConvolutionConfig(kernel_size=kernel_size).build(site).double()
    x = torch.randn(2, site.dim, *site.grid, dtype=torch.float64)
    windows = F.unfold(x, kernel_size, padding=kernel_size // 2)
    expected = mixer.weight.flatten(1) @ windows + mixer.bias[:, None]
    torch.testing.assert_close(mixer(x).flatten(2), expected)


def test_channels_of_other_groups_are_not_seen(site):
    mixer = ConvolutionConfig(groups=2).build(site)
    x = torch.randn(1, site.dim, *site.grid)
    changed = x.clone()
    changed[:, : site.dim // 2] += 1
    moved = (mixer(changed) != mixer(x)).flatten(2).any(-1)[0]
    assert moved.tolist() == [True] * (site.dim // 2) + [False] * (site.dim // 2)


def test_with_a_group_for_each_channel_it_is_the_depthwise_convolution(site):
    mixer, depthwise = ConvolutionConfig(groups=site.dim).build(site), DepthwiseConvConfig().build(site)
    mixer.load_state_dict(depthwise.state_dict())
    x = torch.randn(2, site.dim, *site.grid)
    assert torch.equal(mixer(x), depthwise(x))


def test_its_parameters_are_a_window_for_each_pair_of_channels(site):
    shapes = {name: tuple(tensor.shape) for name, tensor in ConvolutionConfig(groups=2).build(site).named_parameters()}
    assert shapes == {"weight": (site.dim, site.dim // 2, 3, 3), "bias": (site.dim,)}
    assert list(ConvolutionConfig(bias=False).build(site).state_dict()) == ["weight"]


def test_a_norm_and_an_activation_follow_it(site):
    config = ConvolutionConfig(bias=False, norm=BatchNormConfig(), activation="gelu")
    assert from_dict(ConvolutionConfig, to_dict(config)) == config
    mixer, x = config.build(site).train(), torch.randn(3, site.dim, *site.grid)
    made = F.conv2d(x, mixer.conv.weight, padding=1)
    variance, mean = torch.var_mean(made, dim=(0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(mixer(x), F.gelu((made - mean) * torch.rsqrt(variance + 1e-5)), rtol=1e-4, atol=1e-5)
    assert [name for name, _ in ConvolutionConfig(activation="relu").build(site).named_children()] == [
        "conv",
        "activation",
    ]
    with pytest.raises(ConfigError, match="Did you mean 'gelu'"):
        ConvolutionConfig(activation="gelo")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernel_size": 4},
            "ConvolutionConfig.kernel_size must be odd and positive, so that the output keeps the grid; got 4. Try 5.",
        ),
        ({"groups": 0}, "ConvolutionConfig.groups must be at least 1; got 0."),
    ],
    ids=["kernel_size", "groups"],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ConvolutionConfig(**options)


def test_groups_that_do_not_divide_the_channels_are_refused_with_the_nearest(site):
    message = (
        rf"groups must divide the {site.dim} channels of stage {site.stage + 1}; got {site.dim + 1}. Try {site.dim}."
    )
    with pytest.raises(ConfigError, match=message):
        ConvolutionConfig(groups=site.dim + 1).build(site)
