import pytest
import torch
import torch.nn.functional as F

from metaformer.core.errors import ShapeError
from metaformer.ops.norm_pool.native import NativeNormPool
from metaformer.ops.norm_pool.reference import NormPool, norm_pool
from metaformer.ops.norm_pool.training import choose_trained_pool, trained_norm_pool
from metaformer.ops.normalise import sample_moments
from metaformer.ops.pool_mix import pool_mix

GRIDS = [(7, 7), (5, 9), (1, 4), (33, 3)]
POOL_SIZES = [1, 3, 5, 9]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def arguments(channels=6, dtype=torch.float64):
    return {"scale": torch.randn(channels, dtype=dtype), "res_scale": torch.rand(channels, dtype=dtype)}


def operator(x, moments, *, want_moments=False, **named):
    """The C++, or what stands for it."""
    return NativeNormPool.pack(NormPool(**named), want_moments=want_moments).run(x, moments)


def trained(x, *, bias=None, factor=None, **named):
    way = choose_trained_pool(device=x.device, dtype=x.dtype)
    return trained_norm_pool(x, NormPool(**named), way, bias=bias, factor=factor)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("pool_size", POOL_SIZES)
def test_the_definition_is_norm_pooling_layer_scale_and_residual(grid, pool_size):
    x = 2 * torch.randn(2, 6, *grid, dtype=torch.float64) + 1
    weight, bias, layer_scale = torch.randn(3, 6, dtype=torch.float64)
    normed = F.group_norm(x, 1, weight, bias, 1e-5)
    expected = x + layer_scale[:, None, None] * pool_mix(normed, pool_size)
    y, moments = norm_pool(x, NormPool(scale=weight * layer_scale, pool_size=pool_size))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(moments, sample_moments(expected))


def test_the_mean_of_a_sample_cancels():
    # Given moments, only the variance may matter: the identity that the fast path rests on.
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    scale, moments = torch.randn(4, dtype=torch.float64), sample_moments(x)
    shifted = moments + torch.tensor([[7.0, 0.0]], dtype=torch.float64)
    y, other = (norm_pool(x, NormPool(scale=scale), moments=known)[0] for known in (moments, shifted))
    torch.testing.assert_close(y, other)
    rstd = torch.rsqrt(moments[:, 1] + 1e-5)[:, None, None, None]
    torch.testing.assert_close(y, x + scale[:, None, None] * rstd * pool_mix(x, 3))


@pytest.mark.parametrize("norm", ["none", "sample", "token"])
def test_gradcheck_of_the_definition(norm):
    x = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    scale, res_scale = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    factor = torch.tensor([0.5, 1.25], dtype=torch.float64)

    def run(x, scale, res_scale):
        return norm_pool(x, NormPool(scale=scale, norm=norm, res_scale=res_scale), factor=factor)

    assert torch.autograd.gradcheck(run, (x, scale, res_scale))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("with_factor", [False, True], ids=["all kept", "drop path"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_training_equals_the_definition_forward_and_backward(grid, with_factor, dtype):
    # In float32 the forward pass is that of the C++, where there is one.
    x = (torch.randn(2, 6, *grid, dtype=dtype) + 0.5).requires_grad_()
    scale, res_scale = (torch.randn(6, dtype=dtype, requires_grad=True) for _ in range(2))
    factor = torch.tensor([0.0, 1.25], dtype=dtype) if with_factor else None
    named = {"scale": scale, "eps": 1e-3, "res_scale": res_scale}
    expected = norm_pool(x, NormPool(**named), factor=factor)
    actual = trained(x, **named, factor=factor)
    close = {} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    seeds = [torch.randn_like(part) for part in expected]
    for mine, its in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, its, **close)
    # Through both results: the moments are differentiated too.
    grads = [torch.autograd.grad(results, (x, scale, res_scale), seeds) for results in (actual, expected)]
    for mine, its in zip(*grads, strict=True):
        torch.testing.assert_close(mine, its, **close)


def test_the_bias_of_the_norm_gets_a_zero_gradient_not_none():
    x, bias = torch.randn(2, 4, 3, 3), torch.randn(4, requires_grad=True)
    y, _ = trained(x, scale=torch.ones(4), bias=bias)
    (grad,) = torch.autograd.grad(y.square().sum(), bias)
    assert torch.equal(grad, torch.zeros(4))


def test_training_keeps_the_input_and_nothing_else_of_its_size():
    kept = []
    x, scale = torch.randn(2, 8, 9, 9, requires_grad=True), torch.randn(8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        trained(x, scale=scale)
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
            wide = NormPool(**{k: v.double() for k, v in options.items()}, pool_size=pool_size, norm=norm)
            expected, _ = norm_pool(x.double(), wide)
            moments = sample_moments(x)
            y, y_moments = operator(x, moments, **options, pool_size=pool_size, norm=norm, want_moments=True)
            tolerance = TOLERANCE[dtype]
            torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=10 * tolerance)
            torch.testing.assert_close(y_moments, sample_moments(y), rtol=1e-4, atol=1e-5)
            assert y.dtype == dtype
            assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("library")
def test_a_constant_map_comes_back_exactly():
    x = torch.full((2, 8, 5, 6), 3.0)
    y, _ = operator(x, None, scale=torch.randn(8), norm="none", eps=0.0)
    assert torch.equal(y, x)


@pytest.mark.usefixtures("library")
def test_what_an_earlier_call_left_behind_does_not_matter():
    x, scale = torch.randn(1, 8, 6, 6), torch.randn(8)
    before = operator(x, None, scale=scale, norm="token", want_moments=True)
    operator(torch.full((4, 16, 9, 9), float("nan")), None, scale=torch.randn(16), pool_size=5, norm="token")
    for mine, again in zip(before, operator(x, None, scale=scale, norm="token", want_moments=True), strict=True):
        assert torch.equal(mine, again)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("scale", [torch.ones(5), torch.ones(6, dtype=torch.bfloat16), torch.ones(12)[::2]], ids=str)
def test_weights_that_cpp_would_misread_are_refused(scale):
    with pytest.raises(ShapeError, match="scale must be 6 contiguous float32 numbers"):
        NativeNormPool(scale=scale, norm="none").run(torch.randn(1, 6, 3, 3), None)


@pytest.mark.usefixtures("library")
def test_missing_moments_are_refused():
    x = torch.randn(1, 6, 3, 3)
    with pytest.raises(ShapeError, match="needs the mean and variance"):
        torch.ops.metaformer.norm_pool(x, None, None, torch.ones(6), None, 3, "sample", 1e-5, False)


def test_the_operators_second_derivative_is_refused_not_wrong():
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    y, _ = operator(x, None, scale=torch.randn(4), norm="token")
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("level", [10, 100, 1000])
def test_the_variance_survives_a_mean_far_above_it(level):
    x = torch.randn(2, 64, 14, 14) + level
    _, moments = operator(x, None, scale=torch.zeros(64), norm="none", want_moments=True)
    exact = x.double().flatten(1).var(dim=1, correction=0)
    # Sums of squares are level**2 times as large as what is left of them.
    assert ((moments[:, 1] - exact) / exact).abs().max() < 1e-7 * level**2 + 1e-5


def test_the_operator_has_the_gradient_of_the_definition():
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    scale = torch.randn(4, requires_grad=True)
    moments = sample_moments(x.detach())
    y, _ = NativeNormPool(scale=scale, want_moments=True).run(x, moments)
    expected, _ = norm_pool(x, NormPool(scale=scale), moments=moments)
    seed = torch.randn_like(y)
    for mine, its in zip(*(torch.autograd.grad(z, (x, scale), seed) for z in (y, expected)), strict=True):
        torch.testing.assert_close(mine, its)


def test_torchs_own_checks_of_an_operator():
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    args = (x, sample_moments(x), None, torch.randn(4), None, 3, "sample", 1e-5, True)
    torch.library.opcheck(torch.ops.metaformer.norm_pool.default, args, test_utils=("test_schema", "test_faketensor"))
