import pytest
import torch
import torch.nn.functional as F

from metaformer.core.errors import ShapeError
from metaformer.ops.depthwise.operator import depthwise
from metaformer.ops.native.packing import fill_up, pack_depthwise, pack_panels, unpack_depthwise
from metaformer.ops.norm_convolution.operator import norm_convolution as operator
from metaformer.ops.norm_convolution.reference import norm_convolution
from metaformer.ops.normalise import sample_moments

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}
KERNELS = [(1, 1, 0), (3, 2, 1), (7, 4, 2)]  # size, stride, padding


def packed(weight, bias, tile_columns):
    return pack_panels(weight.permute(0, 2, 3, 1).flatten(1), tile_columns), fill_up(bias, tile_columns)


def test_the_definition_is_norm_convolution_activation_norm_and_residual():
    x, residual = torch.randn(2, 3, 6, 7, dtype=torch.float64), torch.randn(2, 5, 3, 4, dtype=torch.float64)
    weight, bias = torch.randn(5, 3, 3, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    normed = F.group_norm(x, 1)
    y = 1.5 * F.conv2d(normed, weight, bias, stride=2, padding=1).relu().square() - 0.3
    y = F.layer_norm(y.movedim(1, -1), (5,), torch.ones(5).double(), None, 1e-5).movedim(-1, 1)
    actual, moments = norm_convolution(
        x, weight, bias, stride=2, padding=1, norm="sample", activation="squared_relu", act_scale=1.5, act_shift=-0.3,
        post_weight=torch.ones(5), residual=residual,
    )  # fmt: skip
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
        options = {"act_scale": 1.5, "act_shift": -0.3, "post_eps": 1e-3}
        for norm, x in zip(
            ("none", "token", "sample"), layouts(torch.randn(2, channels, *grid).to(dtype)), strict=True
        ):
            expected, _ = norm_convolution(
                x.double(), weight.double(), bias.double(), stride=stride, padding=padding, norm=norm,
                activation="silu", post_weight=post_weight.double(), post_bias=post_bias.double(),
                residual=residual.double(), res_scale=res_scale.double(), **options,
            )  # fmt: skip
            y, moments = operator(
                x, sample_moments(x), *packed(weight, bias, library.tile_columns), residual, res_scale, post_weight,
                post_bias, out, size, stride, padding, "silu", 1.5, -0.3, norm, 1e-5, 1e-3, True,
            )  # fmt: skip
            # A layer norm over few channels can enlarge the rounding.
            tolerance = 5 * TOLERANCE[dtype]
            torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=5 * tolerance)
            torch.testing.assert_close(moments, sample_moments(y), rtol=1e-4, atol=1e-4)


def test_a_residual_of_another_shape_is_refused(library):
    panels, bias = packed(torch.randn(4, 3, 1, 1), torch.randn(4), library.tile_columns)
    x, residual = torch.randn(1, 3, 5, 5), torch.randn(1, 4, 5, 4)
    options = (None, None, None, 4, 1, 1, 0, "none", 1.0, 0.0, "none", 0.0, 0.0, False)
    with pytest.raises(ShapeError, match=r"must be like the result, \(1, 4, 5, 5\)"):
        operator(x, None, panels, bias, residual, *options)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("grid", [(7, 7), (5, 9), (1, 4), (20, 16)], ids=str)
def test_depthwise_equals_torchs(library, grid, size, dtype, layouts):
    for channels in (1, 8, 21):
        weight, bias = torch.randn(channels, 1, size, size) / size, torch.randn(channels)
        packed_weight = pack_depthwise(weight, library.lanes)
        assert torch.equal(unpack_depthwise(packed_weight, channels), weight)
        for x in layouts(torch.randn(2, channels, *grid).to(dtype)):
            expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=size // 2, groups=channels)
            y = depthwise(x, packed_weight, fill_up(bias, library.lanes))
            torch.testing.assert_close(y.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_depthwise_weights_for_another_vector_length_still_work(library):
    weight, bias, x = torch.randn(5, 1, 3, 3), torch.randn(5), torch.randn(2, 5, 4, 4)
    expected = F.conv2d(x, weight, bias, padding=1, groups=5)
    other = pack_depthwise(weight, 2 * library.lanes)
    torch.testing.assert_close(depthwise(x, other, fill_up(bias, 2 * library.lanes)), expected, rtol=1e-5, atol=1e-5)
