from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from metaformer.core.errors import ShapeError
from metaformer.ops.depthwise.native import NativeDepthwise
from metaformer.ops.depthwise.reference import Depthwise
from metaformer.ops.native.packing import unpack_depthwise
from metaformer.ops.norm_convolution.native import NativeNormConvolution
from metaformer.ops.norm_convolution.reference import NormConvolution, norm_convolution
from metaformer.ops.normalise import sample_moments

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}
KERNELS = [(1, 1, 0), (3, 2, 1), (7, 4, 2)]  # size, stride, padding


def operator(library, x, moments, residual, **named):
    """The C++."""
    packed = NativeNormConvolution.pack(NormConvolution(**named), library, want_moments=True)
    return packed.run(x, moments, residual)


def test_the_definition_is_norm_convolution_activation_norm_and_residual():
    x, residual = torch.randn(2, 3, 6, 7, dtype=torch.float64), torch.randn(2, 5, 3, 4, dtype=torch.float64)
    weight, bias = torch.randn(5, 3, 3, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    normed = F.group_norm(x, 1)
    y = 1.5 * F.conv2d(normed, weight, bias, stride=2, padding=1).relu().square() - 0.3
    y = F.layer_norm(y.movedim(1, -1), (5,), torch.ones(5).double(), None, 1e-5).movedim(-1, 1)
    op = NormConvolution(
        weight=weight, bias=bias, stride=2, padding=1, norm="sample", activation="squared_relu", act_scale=1.5,
        act_shift=-0.3, post_weight=torch.ones(5),
    )  # fmt: skip
    actual, moments = norm_convolution(x, op, residual=residual)
    torch.testing.assert_close(actual, y + residual)
    torch.testing.assert_close(moments, sample_moments(actual))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_the_operator_equals_the_definition(library, kernel, dtype, layouts):
    size, stride, padding = kernel
    # 60 channels of 3x3 and 24 of 7x7 are longer than what is multiplied at once.
    for channels, out, grid in ((3, 17, (9, 13)), (24, 8, (7, 8)), (60, 33, (5, 6))):
        weight = torch.randn(out, channels, size, size) / (channels * size * size) ** 0.5
        bias, post_weight, post_bias, res_scale = torch.randn(4, out)
        out_grid = [(side + 2 * padding - size) // stride + 1 for side in grid]
        residual = torch.randn(2, out, *out_grid).to(dtype)
        weights = {"weight": weight, "bias": bias, "post_weight": post_weight, "post_bias": post_bias}
        weights["res_scale"] = res_scale
        wide = {name: value.double() for name, value in weights.items()}
        options = {"stride": stride, "padding": padding, "activation": "silu", "act_scale": 1.5, "act_shift": -0.3}
        options["post_eps"] = 1e-3
        for norm, x in zip(
            ("none", "token", "sample"), layouts(torch.randn(2, channels, *grid).to(dtype)), strict=True
        ):
            op = NormConvolution(**wide, **options, norm=norm)
            expected, _ = norm_convolution(x.double(), op, residual=residual.double())
            y, moments = operator(library, x, sample_moments(x), residual, **weights, **options, norm=norm)
            # A layer norm over few channels can enlarge the rounding.
            tolerance = 5 * TOLERANCE[dtype]
            torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=5 * tolerance)
            torch.testing.assert_close(moments, sample_moments(y), rtol=1e-4, atol=1e-4)


def test_a_residual_of_another_shape_is_refused(library):
    x, residual = torch.randn(1, 3, 5, 5), torch.randn(1, 4, 5, 4)
    with pytest.raises(ShapeError, match=r"must be like the result, \(1, 4, 5, 5\)"):
        operator(library, x, None, residual, weight=torch.randn(4, 3, 1, 1), bias=torch.randn(4))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("grid", [(7, 7), (5, 9), (1, 4), (20, 16)], ids=str)
def test_depthwise_equals_torchs(library, grid, size, dtype, layouts):
    for channels in (1, 8, 21):
        weight, bias = torch.randn(channels, 1, size, size) / size, torch.randn(channels)
        packed = NativeDepthwise.pack(Depthwise(weight=weight, bias=bias), library)
        assert torch.equal(unpack_depthwise(packed.weight, channels), weight)
        for x in layouts(torch.randn(2, channels, *grid).to(dtype)):
            expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=size // 2, groups=channels)
            y, _ = packed.run(x)
            torch.testing.assert_close(y.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_depthwise_weights_for_another_vector_length_still_work(library):
    weight, bias, x = torch.randn(5, 1, 3, 3), torch.randn(5), torch.randn(2, 5, 4, 4)
    expected = F.conv2d(x, weight, bias, padding=1, groups=5)
    other = replace(library, lanes=2 * library.lanes)
    actual, _ = NativeDepthwise.pack(Depthwise(weight=weight, bias=bias), other).run(x)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
