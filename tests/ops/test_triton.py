"""The GPU kernels without a GPU: Triton's interpreter runs them in a process of its own, against the definitions."""

import numpy as np
import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")
if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 6) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
    pytest.skip("the interpreter of Triton before 3.6 does not run with NumPy 2.4", allow_module_level=True)

PRELUDE = """
import torch
from torch.testing import assert_close

torch.manual_seed(0)
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}

# Whatever a kernel does not write stays not-a-number, and no comparison forgives that.
def poisoned(made):
    return made.fill_(float("nan")) if made.is_floating_point() else made


empty, new_empty = torch.empty, torch.Tensor.new_empty
torch.empty = lambda *size, **options: poisoned(empty(*size, **options))
torch.empty_like = lambda x: poisoned(x.clone())
torch.Tensor.new_empty = lambda x, *size, **options: poisoned(new_empty(x, *size, **options))
"""

POOL = """
from metaformer.ops.norm_pool import triton as kernels
from metaformer.ops.norm_pool.reference import NormPool, norm_pool
from metaformer.ops.normalise import sample_moments


def layouts(x):
    yield x.contiguous()
    yield x.contiguous(memory_format=torch.channels_last)
    wide = torch.full((x.shape[0], x.shape[1] + 1, x.shape[2], 2 * x.shape[3]), float("nan"), dtype=x.dtype)
    view = wide[:, 1:, :, ::2]
    view.copy_(x)
    yield view


# Every layout with one grid, one layout with the others: the interpreter is slow.
cases = [((3, 5), 3, torch.float32, layout) for layout in range(3)]
cases += [((1, 4), 3, torch.float32, 1), ((2, 3), 1, torch.float32, 1), ((2, 3), 5, torch.float32, 2)]
cases += [((2, 3), 3, torch.float16, 1), ((2, 3), 3, torch.bfloat16, 1)]
for grid, pool_size, dtype, layout in cases:
    plain = (torch.randn(2, 3, *grid) + 0.5).to(dtype)
    scale, res, factor = torch.randn(3), torch.rand(3), torch.tensor([0.0, 1.25])
    x, extra, launch = list(layouts(plain))[layout], (None, res, res)[layout], ((64, 2), (32, 1), (64, 1))[layout]
    inputs = x.detach().double().requires_grad_(), scale.double().requires_grad_()
    wide = None if extra is None else extra.double()
    op = NormPool(scale=inputs[1], pool_size=pool_size, res_scale=wide)
    y, _ = norm_pool(inputs[0], op, factor=factor.double())
    moments = sample_moments(x)
    rstd = torch.rsqrt(moments[:, 1] + 1e-5)
    mine, mine_moments = kernels.forward(x, factor * rstd, scale, extra, pool_size, launch)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert_close(mine.double(), y, **tolerance)
    assert_close(mine_moments, sample_moments(mine), rtol=1e-4, atol=1e-5)

    grad = torch.randn(x.shape).to(dtype)
    expected_x, expected_scale = torch.autograd.grad(y, inputs, grad.double())
    sums = kernels.sums_for_backward(x, grad, pool_size)
    gain = factor * rstd
    assert_close((gain[:, None] * sums).sum(dim=0).double(), expected_scale, rtol=1e-2, atol=10 * TOLERANCE[dtype])
    pull = gain * rstd**2 * (sums * scale).sum(dim=1) / x[0].numel()
    mine_x = kernels.backward(
        x, grad, gain=gain, mean=moments[:, 0].contiguous(), pull=pull, scale=scale, res_scale=extra,
        pool_size=pool_size, launch=launch,
    )
    assert_close(mine_x.double(), expected_x, **tolerance)
assert kernels.fastest_launch(plain, 3) == kernels.LAUNCHES[0]

# A grid's second and third axes end at 65,535: batches may be larger.
class Recorder:
    def __getitem__(self, grid):
        assert max(grid[1:], default=0) <= 65535 and grid[0] < 2**31, grid
        grids.append(grid)
        return lambda *args, **options: None


grids, names = [], ("_forward_kernel", "_reduce_kernel", "_backward_kernel")
real = {name: getattr(kernels, name) for name in names}
for name in names:
    setattr(kernels, name, Recorder())
many, one = torch.zeros(70_000, 1, 1, 1), torch.ones(1)
per_sample = torch.ones(70_000)
kernels.forward(many, per_sample, one, None, 3, (64, 2))
kernels.sums_for_backward(many, many, 3)
kernels.backward(
    many, many, gain=per_sample, mean=per_sample, pull=per_sample, scale=one, res_scale=None, pool_size=3,
    launch=(64, 2),
)
assert len(grids) == 3
for name, kernel in real.items():
    setattr(kernels, name, kernel)
kernels.probe(torch.device("cpu"))
print("checked")
"""

MLP = """
from metaformer.ops.norm_mlp import triton as kernels
from metaformer.ops.norm_mlp.reference import ACTIVATIONS, NormMLP, norm_mlp
from metaformer.ops.normalise import sample_moments

cases = [("gelu", torch.float32, True), ("relu", torch.float32, False), ("silu", torch.float32, True)]
cases += [("squared_relu", torch.float32, True), ("none", torch.float32, False)]
cases += [("gelu", torch.float16, True), ("gelu", torch.bfloat16, True)]
for (activation, dtype, extras), (channels, hidden) in zip(cases, [(20, 70), (33, 40)] * 4, strict=False):
    x = (torch.randn(3, channels, 3, 5) + 0.5).to(dtype)
    weights = {
        "weight1": torch.randn(hidden, channels) / channels**0.5, "bias1": torch.randn(hidden),
        "weight2": torch.randn(channels, hidden) / hidden**0.5, "bias2": torch.randn(channels),
    }
    weights = {name: weight.to(dtype) for name, weight in weights.items()}
    res, factor = (torch.rand(channels), torch.tensor([0.0, 1.25, 1.25])) if extras else (None, None)
    wide = {name: weight.double() for name, weight in weights.items()}
    op = NormMLP(**weights, activation=activation, res_scale=res)
    wide_op = NormMLP(**wide, activation=activation, res_scale=None if res is None else res.double())
    z, _ = norm_mlp(x.double(), wide_op, factor=None if factor is None else factor.double())
    rows = x.permute(0, 2, 3, 1).flatten(0, 2).contiguous()
    launch, moments = (32, 32, 1), sample_moments(x)
    mine, sums = kernels.forward(rows, moments, op, tokens=15, factor=factor, launch=launch)
    expected = z.permute(0, 2, 3, 1).flatten(0, 2)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": 4 * TOLERANCE[dtype]}
    assert_close(mine.double(), expected, **tolerance)
    assert_close(sums[:, 0], mine.float().sum(dim=1), rtol=1e-4, atol=1e-4)
    assert_close(sums[:, 1], mine.float().square().sum(dim=1), rtol=1e-4, atol=1e-4)

    grad = torch.randn(rows.shape).to(dtype)
    normed = (rows.double() - moments[:, :1].repeat_interleave(15, 0)) * torch.rsqrt(
        moments[:, 1:].repeat_interleave(15, 0).double() + 1e-5
    )
    before = (normed @ wide["weight1"].T + wide["bias1"]).requires_grad_()
    after = ACTIVATIONS[activation](before)
    branch = grad.double() if factor is None else grad.double() * factor.repeat_interleave(15)[:, None]
    (expected_grad,) = torch.autograd.grad(after, before, branch @ wide["weight2"])
    mine_after, mine_grad = kernels.hidden_grads(rows, grad, moments, op, tokens=15, factor=factor, launch=launch)
    assert_close(mine_after.double(), after.detach(), **tolerance)
    assert_close(mine_grad.double(), expected_grad, **tolerance)
assert kernels.fastest_launch(rows, 40, dtype) == kernels.LAUNCHES[0]
kernels.probe(torch.device("cpu"))
print("checked")
"""


MODEL = """
from dataclasses import replace
from metaformer.block.norm import BatchNormConfig
from metaformer.fast.backends import choose_launches, triton_backend
from metaformer.ops.norm_mlp.triton import TritonNormMLP
from metaformer.ops.norm_pool.triton import TritonNormPool
from metaformer.fast.stage import folded
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO

for name, change in (("poolformerv2_s12", {}), ("poolformer_s12", {"norm": BatchNormConfig()})):
    config = replace(ZOO[name], dims=(8, 8, 16, 16), depths=(1,) * 4, image_size=(32, 32), num_classes=5, **change)
    model = MetaFormer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        copy, images = folded(model, triton_backend(torch.float32)), torch.randn(2, 3, 32, 32)
        assert_close(copy(images), model(images), rtol=1e-4, atol=1e-5)
    choose_launches(copy, images)
    kinds = {step.kind for stage in copy.stages for block in stage.blocks for step in block.children()}
    assert TritonNormPool in kinds and (change or TritonNormMLP in kinds)
print("checked")
"""

TRAINING = """
from metaformer.ops.norm_mlp import training as mlp
from metaformer.ops.norm_mlp import training_triton
from metaformer.ops.norm_mlp import triton as mlp_kernels
from metaformer.ops.norm_mlp.reference import NormMLP
from metaformer.ops.norm_mlp.training_plain import InSlices
from metaformer.ops.norm_pool import training as pool
from metaformer.ops.norm_pool import triton as pool_kernels
from metaformer.ops.norm_pool.reference import NormPool

training_triton.SLICE = 2 * 6 * 24


def gradients(on_kernels, dtype, factor, res_scale):
    pool_way = pool.PoolInTriton(pool_kernels) if on_kernels else pool.PlainPool()
    mlp_way = training_triton.InTriton(mlp_kernels, dtype) if on_kernels else InSlices(dtype)
    torch.manual_seed(1)
    x = (torch.randn(3, 20, 2, 3) + 0.5).requires_grad_()
    names = {"scale": (20,), "bias": (20,), "res": (20,), "w1": (24, 20), "b1": (24,), "w2": (20, 24), "b2": (20,)}
    p = {name: torch.randn(shape).requires_grad_() for name, shape in names.items()}
    res = p["res"] if res_scale else None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        op = NormPool(scale=p["scale"], res_scale=res)
        y, moments = pool.trained_norm_pool(x, op, pool_way, bias=p["bias"], factor=factor)
        op = NormMLP(weight1=p["w1"], bias1=p["b1"], weight2=p["w2"], bias2=p["b2"], res_scale=res)
        z = mlp.trained_norm_mlp(y, op, mlp_way, moments=moments, factor=factor)
    assert z.dtype == torch.float32
    # The moments are differentiated too.
    loss = (z.square() * torch.linspace(0, 1, z.numel()).view_as(z)).sum() + moments.square().sum()
    wanted = [value for name, value in p.items() if res_scale or name != "res"]
    return [z.detach(), *torch.autograd.grad(loss, [x, *wanted])]


for dtype, factor, res_scale in (
    (torch.float32, torch.tensor([0.0, 1.25, 1.25]), True), (torch.float32, None, False), (torch.bfloat16, None, True)
):
    for mine, its in zip(*(gradients(way, dtype, factor, res_scale) for way in (True, False)), strict=True):
        size = its.abs().max().clamp(min=1e-6)
        assert_close(mine / size, its / size, rtol=0, atol=2e-5 if dtype is torch.float32 else 5e-2)
print("checked")
"""


@pytest.mark.parametrize("kernels", [POOL, MLP, MODEL, TRAINING], ids=["norm_pool", "norm_mlp", "model", "training"])
def test_kernels_equal_the_definitions_forward_and_backward(run_python, kernels):
    assert run_python(PRELUDE + kernels, TRITON_INTERPRET="1").strip().endswith("checked")
