import re

import pytest
import torch
import torch.nn.functional as F

from metaformer.block.token_mixers import DepthwiseConvConfig
from metaformer.core.errors import ConfigError


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_each_channel_is_correlated_with_its_own_window(site, kernel_size):
    mixer = DepthwiseConvConfig(kernel_size=kernel_size).build(site).double()
    x = torch.randn(2, site.dim, *site.grid, dtype=torch.float64)
    height, width = site.grid
    padded = F.pad(x, [kernel_size // 2] * 4)
    expected = mixer.bias[:, None, None].expand_as(x).clone()
    for i in range(kernel_size):
        for j in range(kernel_size):
            expected += mixer.weight[:, 0, i, j, None, None] * padded[..., i : i + height, j : j + width]
    torch.testing.assert_close(mixer(x), expected)


def test_it_equals_a_dense_convolution_with_a_diagonal_of_kernels(site):
    mixer = DepthwiseConvConfig().build(site).double()
    x = torch.randn(2, site.dim, *site.grid, dtype=torch.float64)
    dense = torch.zeros(site.dim, site.dim, 3, 3, dtype=torch.float64)
    dense[range(site.dim), range(site.dim)] = mixer.weight[:, 0]
    torch.testing.assert_close(mixer(x), F.conv2d(x, dense, mixer.bias, padding=1))


def test_its_parameters_are_a_window_and_a_bias_a_channel(site):
    shapes = {name: tuple(tensor.shape) for name, tensor in DepthwiseConvConfig().build(site).named_parameters()}
    assert shapes == {"weight": (site.dim, 1, 3, 3), "bias": (site.dim,)}


def test_the_bias_can_be_left_out(site):
    assert list(DepthwiseConvConfig(bias=False).build(site).state_dict()) == ["weight"]


@pytest.mark.parametrize(("kernel_size", "suggestion"), [(4, 5), (0, 1), (-3, 1)])
def test_a_kernel_that_moves_the_grid_is_refused(kernel_size, suggestion):
    message = (
        "DepthwiseConvConfig.kernel_size must be odd and positive, so that the output keeps the grid; "
        f"got {kernel_size}. Try {suggestion}."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        DepthwiseConvConfig(kernel_size=kernel_size)
