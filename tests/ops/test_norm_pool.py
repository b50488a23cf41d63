import pytest
import torch
import torch.nn.functional as F

from metaformer.core.errors import ShapeError
from metaformer.ops.norm_pool.operator import norm_pool as operator
from metaformer.ops.norm_pool.reference import norm_pool
from metaformer.ops.norm_pool.training import trained_norm_pool
from metaformer.ops.normalise import sample_moments
from metaformer.ops.pool_mix import pool_mix

GRIDS = [(7, 7), (5, 9), (1, 4), (33, 3)]
POOL_SIZES = [1, 3, 5, 9]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def arguments(channels=6, dtype=torch.float64):
    return {"scale": torch.randn(channels, dtype=dtype), "res_scale": torch.rand(channels, dtype=dtype)}


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("pool_size", POOL_SIZES)
def test_the_definition_is_norm_pooling_layer_scale_and_residual(grid, pool_size):
    x = 2 * torch.randn(2, 6, *grid, dtype=torch.float64) + 1
    weight, bias, layer_scale = torch.randn(3, 6, dtype=torch.float64)
    normed = F.group_norm(x, 1, weight, bias, 1e-5)
    expected = x + layer_scale[:, None, None] * pool_mix(normed, pool_size)
    y, moments = norm_pool(x, weight * layer_scale, pool_size=pool_size)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(moments, sample_moments(expected))


def test_the_mean_of_a_sample_cancels():
    # Given moments, only the variance may matter: the identity that the fast path rests on.
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    scale, moments = torch.randn(4, dtype=torch.float64), sample_moments(x)
    shifted = moments + torch.tensor([[7.0, 0.0]], dtype=torch.float64)
    y, other = (norm_pool(x, scale, pool_size=3, moments=known)[0] for known in (moments, shifted))
    torch.testing.assert_close(y, other)
    rstd = torch.rsqrt(moments[:, 1] + 1e-5)[:, None, None, None]
    torch.testing.assert_close(y, x + scale[:, None, None] * rstd * pool_mix(x, 3))


@pytest.mark.parametrize("norm", ["none", "sample", "token"])
def test_gradcheck_of_the_definition(norm):
    x = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    scale, res_scale = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    factor = torch.tensor([0.5, 1.25], dtype=torch.float64)

    def run(x, scale, res_scale):
        return norm_pool(x, scale, pool_size=3, norm=norm, res_scale=res_scale, factor=factor)

    assert torch.autograd.gradcheck(run, (x, scale, res_scale))


@pytest.mark.parametrize("with_factor", [False, True], ids=["all kept", "drop path"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_training_equals_the_definition_forward_and_backward(grid, with_factor):
    x = (torch.randn(2, 6, *grid, dtype=torch.float64) + 0.5).requires_grad_()
    scale, res_scale = (torch.randn(6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    factor = torch.tensor([0.0, 1.25], dtype=torch.float64) if with_factor else None
    options = {"pool_size": 3, "eps": 1e-3, "res_scale": res_scale, "factor": factor}
    expected = norm_pool(x, scale, **options)
    actual = trained_norm_pool(x, scale, None, **options)
    seeds = [torch.randn_like(part) for part in expected]
    for mine, its in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, its)
    # Through both results: the moments are differentiated too.
    grads = [torch.autograd.grad(results, (x, scale, res_scale), seeds) for results in (actual, expected)]
    for mine, its in zip(*grads, strict=True):
        torch.testing.assert_close(mine, its)


def test_the_bias_of_the_norm_gets_a_zero_gradient_not_none():
    x, bias = torch.randn(2, 4, 3, 3), torch.randn(4, requires_grad=True)
    y, _ = trained_norm_pool(x, torch.ones(4), bias, pool_size=3, eps=1e-5)
    (grad,) = torch.autograd.grad(y.square().sum(), bias)
    assert torch.equal(grad, torch.zeros(4))


def test_training_keeps_the_input_and_nothing_else_of_its_size():
    kept = []
    x, scale = torch.randn(2, 8, 9, 9, requires_grad=True), torch.randn(8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        trained_norm_pool(x, scale, None, pool_size=3, eps=1e-5)
    large = [tensor for tensor in kept if tensor.numel() >= x.numel()]
    assert [tensor.data_ptr() for tensor in large] == [x.data_ptr()]


@pytest.mark.usefixtures("library", "poisoned")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("norm", ["none", "sample", "token"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_operator_equals_the_definition(grid, norm, dtype, layouts):
    for channels, pool_size in ((1, 3), (6, 1), (24, 3), (33, 9)):
        options = arguments(channels, torch.float32)
        for x in layouts((2 * torch.randn(3, channels, *grid) + 1).to(dtype)):
            expected, _ = norm_pool(
                x.double(), **{k: v.double() for k, v in options.items()}, pool_size=pool_size, norm=norm
            )
            moments = sample_moments(x)
            y, y_moments = operator(x, moments, *options.values(), pool_size, norm, 1e-5, True)
            tolerance = TOLERANCE[dtype]
            torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=10 * tolerance)
            torch.testing.assert_close(y_moments, sample_moments(y), rtol=1e-4, atol=1e-5)
            assert y.dtype == dtype
            assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("library")
def test_a_constant_map_comes_back_exactly():
    x = torch.full((2, 8, 5, 6), 3.0)
    y, _ = operator(x, None, torch.randn(8), None, 3, "none", 0.0, False)
    assert torch.equal(y, x)


@pytest.mark.usefixtures("library")
def test_what_an_earlier_call_left_behind_does_not_matter():
    x, scale = torch.randn(1, 8, 6, 6), torch.randn(8)
    before = operator(x, None, scale, None, 3, "token", 1e-5, True)
    operator(torch.full((4, 16, 9, 9), float("nan")), None, torch.randn(16), None, 5, "token", 1e-5, True)
    for mine, again in zip(before, operator(x, None, scale, None, 3, "token", 1e-5, True), strict=True):
        assert torch.equal(mine, again)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("scale", [torch.ones(5), torch.ones(6, dtype=torch.bfloat16), torch.ones(12)[::2]], ids=str)
def test_weights_that_cpp_would_misread_are_refused(scale):
    with pytest.raises(ShapeError, match="scale must be 6 contiguous float32 numbers"):
        operator(torch.randn(1, 6, 3, 3), None, scale, None, 3, "none", 0.0, False)


@pytest.mark.usefixtures("library")
def test_missing_moments_are_refused():
    with pytest.raises(ShapeError, match="needs the mean and variance"):
        operator(torch.randn(1, 6, 3, 3), None, torch.ones(6), None, 3, "sample", 1e-5, False)


def test_the_operators_second_derivative_is_refused_not_wrong():
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    y, _ = operator(x, None, torch.randn(4), None, 3, "token", 1e-5, False)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("level", [10, 100, 1000])
def test_the_variance_survives_a_mean_far_above_it(level):
    x = torch.randn(2, 64, 14, 14) + level
    _, moments = operator(x, None, torch.zeros(64), None, 3, "none", 1e-5, True)
    exact = x.double().flatten(1).var(dim=1, correction=0)
    # Sums of squares are level**2 times as large as what is left of them.
    assert ((moments[:, 1] - exact) / exact).abs().max() < 1e-7 * level**2 + 1e-5


def test_the_operator_has_the_gradient_of_the_definition():
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    scale = torch.randn(4, requires_grad=True)
    moments = sample_moments(x.detach())
    y, _ = operator(x, moments, scale, None, 3, "sample", 1e-5, True)
    expected, _ = norm_pool(x, scale, pool_size=3, moments=moments)
    seed = torch.randn_like(y)
    for mine, its in zip(*(torch.autograd.grad(z, (x, scale), seed) for z in (y, expected)), strict=True):
        torch.testing.assert_close(mine, its)


def test_torchs_own_checks_of_an_operator():
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    args = (x, sample_moments(x), torch.randn(4), None, 3, "sample", 1e-5, True)
    torch.library.opcheck(torch.ops.metaformer.norm_pool.default, args, test_utils=("test_schema", "test_faketensor"))
