"""The fused channel MLP sub-block on a GPU, in Triton: forward whole, backward up to the hidden gradients.

Rows are tokens of all samples. Forward keeps a tile of tokens on the chip while it walks over the hidden channels: the
hidden tensor is never written. Backward makes it again, and writes what the matrix library needs for the gradients.
Products take operands in the dtype of the weights, whatever that of the features, and are summed in float32.
"""

# Kernels are typed by Triton, when it compiles them.
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator, no-untyped-def"

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from metaformer.ops import triton_kernels
from metaformer.ops.arguments import Features, with_weights
from metaformer.ops.norm_mlp.reference import NormMLP
from metaformer.ops.normalise import sample_moments

# The numbers of the activations inside the kernels.
ACTIVATION_KINDS = {"none": 0, "gelu": 1, "relu": 2, "silu": 3, "squared_relu": 4}
# Tokens and hidden channels of a tile, and warps; the first is used where nothing is timed.
LAUNCHES = ((32, 32, 4), (64, 32, 4), (64, 64, 8), (128, 64, 8))
# Numbers of a tile of the result, in float32.
TILE_NUMBERS = 16384
# Channels of the input that are multiplied at a time.
DEPTH = 32
# A tile of tokens keeps all its channels on the chip; more than these do not fit.
MOST_CHANNELS = 512


@triton.jit
def _product(a, b, total, DTYPE: tl.constexpr, WIDE: tl.constexpr):
    """The product of operands rounded to DTYPE; WIDE multiplies them as float32, for the interpreter."""
    a, b = a.to(DTYPE), b.to(DTYPE)
    if WIDE:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
def _activate(x, KIND: tl.constexpr):
    if KIND == 1:
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif KIND == 2:
        x = tl.maximum(x, 0.0)
    elif KIND == 3:
        x = x / (1.0 + tl.exp(-x))
    elif KIND == 4:
        x = tl.maximum(x, 0.0) * tl.maximum(x, 0.0)
    return x


@triton.jit
def _slope(x, KIND: tl.constexpr):
    if KIND == 1:
        x = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    elif KIND == 2:
        x = tl.where(x > 0.0, 1.0, 0.0)
    elif KIND == 3:
        share = 1.0 / (1.0 + tl.exp(-x))
        x = share * (1.0 + x * (1.0 - share))
    elif KIND == 4:
        x = 2.0 * tl.maximum(x, 0.0)
    else:
        x = tl.zeros_like(x) + 1.0
    return x


@triton.jit
def _hidden_tile(
    x_ptr, weight_ptr, bias_ptr, row, hidden, mean, rstd, num_rows, channels, num_hidden,
    ROWS: tl.constexpr, HIDDEN: tl.constexpr, DEPTH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Hidden numbers before the activation: the normalised rows times some rows of the weight, plus the bias."""
    total = tl.zeros((ROWS, HIDDEN), tl.float32)
    for first in range(0, channels, DEPTH):
        depth = first + tl.arange(0, DEPTH)
        inside = (row[:, None] < num_rows) & (depth[None, :] < channels)
        x = tl.load(x_ptr + row[:, None] * channels + depth[None, :], mask=inside, other=0.0).to(tl.float32)
        normed = tl.where(inside, (x - mean[:, None]) * rstd[:, None], 0.0)
        inside = (hidden[None, :] < num_hidden) & (depth[:, None] < channels)
        weight = tl.load(weight_ptr + hidden[None, :] * channels + depth[:, None], mask=inside, other=0.0)
        total = _product(normed, weight, total, weight_ptr.dtype.element_ty, WIDE)
    bias = tl.load(bias_ptr + hidden, mask=hidden < num_hidden, other=0.0).to(tl.float32)
    return total + bias[None, :]


@triton.jit
def _forward_kernel(
    x_ptr, y_ptr, moments_ptr, factor_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, res_ptr, sums_ptr,
    num_rows, tokens, channels, num_hidden, eps,
    KIND: tl.constexpr, HAS_RES: tl.constexpr, HAS_FACTOR: tl.constexpr,
    ROWS: tl.constexpr, HIDDEN: tl.constexpr, DEPTH: tl.constexpr, WIDE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_rows
    sample = row // tokens
    mean = tl.load(moments_ptr + 2 * sample, mask=is_row, other=0.0)
    rstd = 1.0 / tl.sqrt(tl.load(moments_ptr + 2 * sample + 1, mask=is_row, other=1.0) + eps)
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < channels
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for first in range(0, num_hidden, HIDDEN):
        hidden = first + tl.arange(0, HIDDEN)
        before = _hidden_tile(
            x_ptr, w1_ptr, b1_ptr, row, hidden, mean, rstd, num_rows, channels, num_hidden, ROWS, HIDDEN, DEPTH, WIDE
        )
        after = _activate(before, KIND)
        inside = (hidden[:, None] < num_hidden) & is_channel[None, :]
        weight = tl.load(w2_ptr + channel[None, :] * num_hidden + hidden[:, None], mask=inside, other=0.0)
        total = _product(after, weight, total, w2_ptr.dtype.element_ty, WIDE)
    total += tl.load(b2_ptr + channel, mask=is_channel, other=0.0).to(tl.float32)[None, :]
    if HAS_FACTOR:
        total = total * tl.load(factor_ptr + sample, mask=is_row, other=0.0).to(tl.float32)[:, None]
    at = row[:, None] * channels + channel[None, :]
    inside = is_row[:, None] & is_channel[None, :]
    skip = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_RES:
        skip = skip * tl.load(res_ptr + channel, mask=is_channel, other=0.0).to(tl.float32)[None, :]
    stored = (skip + total).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at, stored, mask=inside)
    y = tl.where(inside, stored.to(tl.float32), 0.0)
    tl.store(sums_ptr + 2 * row, tl.sum(y, axis=1), mask=is_row)
    tl.store(sums_ptr + 2 * row + 1, tl.sum(y * y, axis=1), mask=is_row)


@triton.jit
def _hidden_grad_kernel(
    x_ptr, grad_ptr, moments_ptr, factor_ptr, w1_ptr, b1_ptr, w2_ptr, after_ptr, before_grad_ptr,
    num_rows, tokens, channels, num_hidden, eps,
    KIND: tl.constexpr, HAS_FACTOR: tl.constexpr,
    ROWS: tl.constexpr, HIDDEN: tl.constexpr, DEPTH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    hidden = tl.program_id(1) * HIDDEN + tl.arange(0, HIDDEN)
    is_row = row < num_rows
    sample = row // tokens
    mean = tl.load(moments_ptr + 2 * sample, mask=is_row, other=0.0)
    rstd = 1.0 / tl.sqrt(tl.load(moments_ptr + 2 * sample + 1, mask=is_row, other=1.0) + eps)
    before = _hidden_tile(
        x_ptr, w1_ptr, b1_ptr, row, hidden, mean, rstd, num_rows, channels, num_hidden, ROWS, HIDDEN, DEPTH, WIDE
    )
    grad = tl.zeros((ROWS, HIDDEN), tl.float32)
    for first in range(0, channels, DEPTH):
        depth = first + tl.arange(0, DEPTH)
        inside = is_row[:, None] & (depth[None, :] < channels)
        branch = tl.load(grad_ptr + row[:, None] * channels + depth[None, :], mask=inside, other=0.0)
        inside = (depth[:, None] < channels) & (hidden[None, :] < num_hidden)
        weight = tl.load(w2_ptr + depth[:, None] * num_hidden + hidden[None, :], mask=inside, other=0.0)
        grad = _product(branch, weight, grad, w2_ptr.dtype.element_ty, WIDE)
    if HAS_FACTOR:
        grad = grad * tl.load(factor_ptr + sample, mask=is_row, other=0.0).to(tl.float32)[:, None]
    at = row[:, None] * num_hidden + hidden[None, :]
    inside = is_row[:, None] & (hidden[None, :] < num_hidden)
    tl.store(after_ptr + at, _activate(before, KIND).to(after_ptr.dtype.element_ty), mask=inside)
    tl.store(before_grad_ptr + at, (grad * _slope(before, KIND)).to(before_grad_ptr.dtype.element_ty), mask=inside)


def forward(
    rows: Tensor,
    moments: Tensor,
    op: NormMLP,
    *,
    tokens: int,
    factor: Tensor | None = None,
    launch: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """The sub-block on rows (tokens of all samples, channels), and sum and sum of squares of each row of the result.

    Args:
        rows: Contiguous.
        moments: Mean and variance of each sample, float32.
        op: Norm "sample", with the residual; its matrices are contiguous.
        tokens: Rows of a sample.
        factor: Of each sample's branch; None is 1.
        launch: A row of LAUNCHES.
    """
    num_rows, channels = rows.shape
    num_rows_of_tile, hidden_of_tile, warps = launch
    y, sums = torch.empty_like(rows), torch.empty((num_rows, 2), dtype=torch.float32, device=rows.device)
    _forward_kernel[(triton.cdiv(num_rows, num_rows_of_tile),)](
        rows, y, moments, rows if factor is None else factor, op.weight1, op.bias1, op.weight2, op.bias2,
        rows if op.res_scale is None else op.res_scale, sums, num_rows, tokens, channels, len(op.bias1), op.eps,
        KIND=ACTIVATION_KINDS[op.activation], HAS_RES=op.res_scale is not None, HAS_FACTOR=factor is not None,
        ROWS=num_rows_of_tile, HIDDEN=hidden_of_tile, DEPTH=DEPTH, WIDE=not rows.is_cuda,
        CHANNELS=max(16, triton.next_power_of_2(channels)), num_warps=warps,
    )  # fmt: skip
    return y, sums


def hidden_grads(
    rows: Tensor,
    grad: Tensor,
    moments: Tensor,
    op: NormMLP,
    *,
    tokens: int,
    factor: Tensor | None = None,
    launch: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """The hidden tensor again, behind the activation, and the gradient of the hidden tensor in front of it.

    Both in the dtype of the weights.
    """
    num_rows, channels = rows.shape
    hidden = len(op.bias1)
    num_rows_of_tile, hidden_of_tile, warps = launch
    after, before_grad = (op.weight1.new_empty((num_rows, hidden)) for _ in range(2))
    grid = (triton.cdiv(num_rows, num_rows_of_tile), triton.cdiv(hidden, hidden_of_tile))
    _hidden_grad_kernel[grid](
        rows, grad, moments, rows if factor is None else factor, op.weight1, op.bias1, op.weight2, after, before_grad,
        num_rows, tokens, channels, hidden, op.eps,
        KIND=ACTIVATION_KINDS[op.activation], HAS_FACTOR=factor is not None,
        ROWS=num_rows_of_tile, HIDDEN=hidden_of_tile, DEPTH=DEPTH, WIDE=not rows.is_cuda, num_warps=warps,
    )  # fmt: skip
    return after, before_grad


@dataclass(frozen=True, kw_only=True, eq=False)
class TritonNormMLP(NormMLP):
    """The same weights, matrices in the dtype of the products, and how the kernel is launched."""

    launch: tuple[int, int, int] = LAUNCHES[0]

    @classmethod
    def pack(cls, op: NormMLP, dtype: torch.dtype) -> "TritonNormMLP | None":
        """None where the kernel does not fit."""
        if op.norm != "sample" or not op.skip or len(op.bias2) > MOST_CHANNELS:
            return None
        wide = NormMLP(**with_weights(op, Tensor.float))
        return cls(**with_weights(wide, lambda weight: weight.to(dtype).contiguous(), "weight1", "weight2"))

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The sub-block in one pass, the moments of the result included."""
        batch, channels, height, width = x.shape
        moments = sample_moments(x) if moments is None else moments
        y, sums = forward(rows_of(x), moments, self, tokens=height * width, launch=self.launch)
        totals = sums.view(batch, -1, 2).sum(dim=1, dtype=torch.float64) / (height * width * channels)
        variance = (totals[:, 1] - totals[:, 0].square()).clamp(min=0)
        y = y.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return y, torch.stack([totals[:, 0], variance], dim=1).float()

    def fastest_launch(self, x: Tensor) -> tuple[int, int, int]:
        """For features of this shape."""
        return fastest_launch(rows_of(x), len(self.bias1), self.weight1.dtype)


def launch_for(channels: int) -> tuple[int, int, int]:
    """The row of LAUNCHES with the most tokens of which all channels fit on the chip: for training, untimed."""
    fitting = [launch for launch in LAUNCHES if launch[0] * triton.next_power_of_2(channels) <= TILE_NUMBERS]
    return fitting[-1] if fitting else LAUNCHES[0]


def rows_of(x: Tensor) -> Tensor:
    """Features as (tokens of all samples, channels): a view where the channels lie together."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def fastest_launch(rows: Tensor, hidden: int, dtype: torch.dtype) -> tuple[int, int, int]:
    """The row of LAUNCHES that is fastest for the forward pass of rows of this shape; the first on no GPU.

    Args:
        rows: Tokens of all samples, and channels.
        hidden: Channels between the layers.
        dtype: Of the weights.
    """
    if not rows.is_cuda:
        return LAUNCHES[0]

    def prepare() -> Callable[[tuple[int, int, int]], object]:
        channels = rows.shape[1]
        weight, shift = rows.new_ones(hidden * channels, dtype=dtype), rows.new_ones(max(hidden, channels), dtype=dtype)
        matrices: Any = {"weight1": weight.view(hidden, channels), "weight2": weight.view(channels, hidden)}
        op = NormMLP(**matrices, bias1=shift[:hidden], bias2=shift[:channels])
        moments = rows.new_ones((1, 2), dtype=torch.float32)
        return lambda launch: forward(rows, moments, op, tokens=len(rows), launch=launch)

    case = ("norm_mlp", rows.shape, rows.dtype, hidden, dtype, rows.device)
    return triton_kernels.fastest_launch(LAUNCHES, case, prepare)


def probe(device: torch.device) -> None:
    """Runs each kernel once, on a batch whose results are known.

    Raises:
        RuntimeError: One of them is wrong; or whatever Triton raises.
    """
    numbers = torch.arange(4 * 20 * 40, device=device, dtype=torch.float32).sin()
    rows, weight = numbers[: 4 * 20].view(4, 20), numbers[: 20 * 40] / 20**0.5
    matrices: Any = {"weight1": weight.view(40, 20), "weight2": weight.view(20, 40)}
    op = NormMLP(**matrices, bias1=numbers[:40], bias2=numbers[:20], eps=0.0)
    moments = torch.tensor([[0.0, 1.0]], device=device)
    options: Any = {"tokens": 4, "launch": LAUNCHES[0]}
    y, _ = forward(rows, moments, op, **options)
    after, before_grad = hidden_grads(rows, rows, moments, op, **options)
    with torch.enable_grad():
        before = (rows @ op.weight1.T + op.bias1).requires_grad_()
        hidden = F.gelu(before)
        (expected_grad,) = torch.autograd.grad(hidden, before, rows @ op.weight2)
    expected = rows + hidden.detach() @ op.weight2.T + numbers[:20]
    pairs = ((y, expected), (after, hidden.detach()), (before_grad, expected_grad))
    if not all(torch.allclose(actual, wanted, rtol=1e-2, atol=1e-2) for actual, wanted in pairs):
        raise RuntimeError("a kernel's result is wrong")
