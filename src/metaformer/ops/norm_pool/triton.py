"""The fused pooling sub-block on a GPU, forward and backward, in Triton.

A program takes a run of places of one row of the grid, (column, channel) with the channel running fastest, so that
memory is read in its order where the channels lie together; any other strides work too. All arithmetic is in float32.
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
from metaformer.ops.norm_pool.reference import NormPool
from metaformer.ops.normalise import sample_moments

# Places of a row that a program takes, and warps that share them; the first that fits is used where nothing is timed.
LAUNCHES = ((256, 2), (512, 4), (1024, 4), (1024, 8))


@triton.jit
def _place_of_program(parts, height):
    """Which part of which row of which sample: a grid of one axis, as the others end at 65,535."""
    program = tl.program_id(0)
    part, row = program % parts, program // parts % height
    return part, row, (program // parts // height).to(tl.int64)


@triton.jit
def _window_sum(base, row, column, height, width, stride_row, stride_column, mask, REACH: tl.constexpr):
    total = tl.zeros_like(column).to(tl.float32)
    for i in tl.static_range(-REACH, REACH + 1):
        for j in tl.static_range(-REACH, REACH + 1):
            inside = mask & (row + i >= 0) & (row + i < height) & (column + j >= 0) & (column + j < width)
            total += tl.load(base + i * stride_row + j * stride_column, mask=inside, other=0.0).to(tl.float32)
    return total


@triton.jit
def _tokens_in_window(row, column, height, width, REACH: tl.constexpr):
    rows = tl.minimum(row + REACH, height - 1) - tl.maximum(row - REACH, 0) + 1
    columns = tl.minimum(column + REACH, width - 1) - tl.maximum(column - REACH, 0) + 1
    # Places outside the grid, whose results nobody reads, have none.
    return tl.maximum(rows * columns, 1).to(tl.float32)


@triton.jit
def _forward_kernel(
    x_ptr, y_ptr, gain_ptr, scale_ptr, res_ptr, sums_ptr, parts, height, width, channels, sample_stride, channel_stride,
    row_stride, column_stride, y_sample_stride, y_channel_stride, y_row_stride, y_column_stride,
    REACH: tl.constexpr, BLOCK: tl.constexpr, HAS_RES: tl.constexpr,
):  # fmt: skip
    part, row, sample = _place_of_program(parts, height)
    place = part * BLOCK + tl.arange(0, BLOCK)
    mask = place < width * channels
    column, channel = place // channels, place % channels
    base = x_ptr + sample * sample_stride + row * row_stride + column * column_stride + channel * channel_stride
    x = tl.load(base, mask=mask, other=0.0).to(tl.float32)
    total = _window_sum(base, row, column, height, width, row_stride, column_stride, mask, REACH)
    mixed = total / _tokens_in_window(row, column, height, width, REACH) - x
    scale = tl.load(scale_ptr + channel, mask=mask, other=0.0).to(tl.float32) * tl.load(gain_ptr + sample)
    skip = x
    if HAS_RES:
        skip = x * tl.load(res_ptr + channel, mask=mask, other=0.0).to(tl.float32)
    stored = (skip + scale * mixed).to(y_ptr.dtype.element_ty)
    at = sample * y_sample_stride + row * y_row_stride + column * y_column_stride + channel * y_channel_stride
    tl.store(y_ptr + at, stored, mask=mask)
    # Of what was stored, rounding included. Each program has a place of its own: the sum is the same every time.
    y = tl.where(mask, stored.to(tl.float32), 0.0)
    slot = sums_ptr + 2 * ((sample * height + row) * parts + part)
    tl.store(slot, tl.sum(y, axis=0))
    tl.store(slot + 1, tl.sum(y * y, axis=0))


@triton.jit
def _reduce_kernel(
    x_ptr, grad_ptr, sums_ptr, parts, height, width, channels, sample_stride, channel_stride, row_stride, column_stride,
    g_sample_stride, g_channel_stride, g_row_stride, g_column_stride, REACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part, row, sample = _place_of_program(parts, height)
    channel = part * BLOCK + tl.arange(0, BLOCK)
    mask = channel < channels
    total = tl.zeros((BLOCK,), tl.float32)
    for column in range(0, width):
        base = x_ptr + sample * sample_stride + row * row_stride + column * column_stride + channel * channel_stride
        x = tl.load(base, mask=mask, other=0.0).to(tl.float32)
        columns = tl.full((BLOCK,), 0, tl.int32) + column
        window = _window_sum(base, row, columns, height, width, row_stride, column_stride, mask, REACH)
        mixed = window / _tokens_in_window(row, columns, height, width, REACH) - x
        at = sample * g_sample_stride + row * g_row_stride + column * g_column_stride + channel * g_channel_stride
        total += mixed * tl.load(grad_ptr + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(sums_ptr + (sample * height + row) * channels + channel, total, mask=mask)


@triton.jit
def _backward_kernel(
    x_ptr, grad_ptr, out_ptr, gain_ptr, mean_ptr, pull_ptr, scale_ptr, res_ptr, parts, height, width, channels,
    sample_stride, channel_stride, row_stride, column_stride,
    g_sample_stride, g_channel_stride, g_row_stride, g_column_stride,
    o_sample_stride, o_channel_stride, o_row_stride, o_column_stride,
    REACH: tl.constexpr, BLOCK: tl.constexpr, HAS_RES: tl.constexpr,
):  # fmt: skip
    part, row, sample = _place_of_program(parts, height)
    place = part * BLOCK + tl.arange(0, BLOCK)
    mask = place < width * channels
    column, channel = place // channels, place % channels
    base = grad_ptr + sample * g_sample_stride + row * g_row_stride + column * g_column_stride
    base += channel * g_channel_stride
    grad = tl.load(base, mask=mask, other=0.0).to(tl.float32)
    # Each window hands its gradient, divided by its tokens, to all of its tokens.
    total = tl.zeros((BLOCK,), tl.float32)
    for i in tl.static_range(-REACH, REACH + 1):
        for j in tl.static_range(-REACH, REACH + 1):
            inside = mask & (row + i >= 0) & (row + i < height) & (column + j >= 0) & (column + j < width)
            near = tl.load(base + i * g_row_stride + j * g_column_stride, mask=inside, other=0.0).to(tl.float32)
            total += near / _tokens_in_window(row + i, column + j, height, width, REACH)
    scale = tl.load(scale_ptr + channel, mask=mask, other=0.0).to(tl.float32) * tl.load(gain_ptr + sample)
    skip = grad
    if HAS_RES:
        skip = grad * tl.load(res_ptr + channel, mask=mask, other=0.0).to(tl.float32)
    at = sample * sample_stride + row * row_stride + column * column_stride + channel * channel_stride
    centred = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32) - tl.load(mean_ptr + sample)
    result = skip + scale * (total - grad) - tl.load(pull_ptr + sample) * centred
    at = sample * o_sample_stride + row * o_row_stride + column * o_column_stride + channel * o_channel_stride
    tl.store(out_ptr + at, result.to(out_ptr.dtype.element_ty), mask=mask)


def forward(
    x: Tensor, gain: Tensor, scale: Tensor, res_scale: Tensor | None, pool_size: int, launch: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The sub-block, y = res_scale * x + gain * scale * (pool(x) - x), and mean and variance of each sample of y.

    Args:
        x: Features (B, C, H, W), any strides.
        gain: factor * rstd of each sample, float32.
        scale: Of each channel.
        res_scale: Of each channel; None is 1.
        pool_size: Side of the window.
        launch: A row of LAUNCHES.
    """
    batch, channels, height, width = x.shape
    block, warps = launch
    parts = triton.cdiv(width * channels, block)
    y = torch.empty_like(x)
    sums = torch.empty((batch, height * parts, 2), dtype=torch.float32, device=x.device)
    _forward_kernel[(parts * height * batch,)](
        x, y, gain, scale, x if res_scale is None else res_scale, sums, parts, height, width, channels,
        *x.stride(), *y.stride(),
        REACH=pool_size // 2, BLOCK=block, HAS_RES=res_scale is not None, num_warps=warps,
    )  # fmt: skip
    return y, _moments(sums, x[0].numel())


def sums_for_backward(x: Tensor, grad: Tensor, pool_size: int) -> Tensor:
    """Sums of grad * (pool(x) - x) over the tokens of each sample and channel, (B, C) in float32."""
    batch, channels, height, width = x.shape
    block = min(1024, triton.next_power_of_2(channels))
    parts = triton.cdiv(channels, block)
    sums = torch.empty((batch, height, channels), dtype=torch.float32, device=x.device)
    _reduce_kernel[(parts * height * batch,)](
        x, grad, sums, parts, height, width, channels, *x.stride(), *grad.stride(),
        REACH=pool_size // 2, BLOCK=block,
    )  # fmt: skip
    return sums.sum(dim=1)


def backward(
    x: Tensor,
    grad: Tensor,
    *,
    gain: Tensor,
    mean: Tensor,
    pull: Tensor,
    scale: Tensor,
    res_scale: Tensor | None,
    pool_size: int,
    launch: tuple[int, int],
) -> Tensor:
    """The gradient of x: res_scale * g + gain * (P' - 1)(scale * g) - pull * (x - mean), P' the transposed pooling."""
    batch, channels, height, width = x.shape
    block, warps = launch
    parts = triton.cdiv(width * channels, block)
    out = torch.empty_like(x)
    _backward_kernel[(parts * height * batch,)](
        x, grad, out, gain, mean, pull, scale, x if res_scale is None else res_scale, parts, height, width,
        channels,
        *x.stride(), *grad.stride(), *out.stride(),
        REACH=pool_size // 2, BLOCK=block, HAS_RES=res_scale is not None, num_warps=warps,
    )  # fmt: skip
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class TritonNormPool(NormPool):
    """The same weights in float32, and how the kernel is launched."""

    launch: tuple[int, int] = LAUNCHES[0]

    @classmethod
    def pack(cls, op: NormPool) -> "TritonNormPool | None":
        """None where the kernel does not fit: a norm of each token changes within the window."""
        return None if op.norm == "token" else cls(**with_weights(op, Tensor.float))

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The sub-block in one pass, the moments of the result included."""
        if self.norm == "none":
            gain = torch.ones(x.shape[0], device=x.device)
        else:
            moments = sample_moments(x) if moments is None else moments
            gain = torch.rsqrt(moments[:, 1] + self.eps)
        return forward(x, gain, self.scale, self.res_scale, self.pool_size, self.launch)

    def fastest_launch(self, x: Tensor) -> tuple[int, int]:
        """For features of this shape."""
        return fastest_launch(x, self.pool_size)


def fastest_launch(x: Tensor, pool_size: int) -> tuple[int, int]:
    """The row of LAUNCHES that is fastest for features of this shape on this GPU; the first on no GPU."""
    if not x.is_cuda:
        return LAUNCHES[0]

    def prepare() -> Callable[[tuple[int, int]], object]:
        ones, gain = x.new_ones(x.shape[1], dtype=torch.float32), x.new_ones(x.shape[0], dtype=torch.float32)
        return lambda launch: forward(x, gain, ones, None, pool_size, launch)

    case = ("norm_pool", x.shape, x.stride(), x.dtype, pool_size, x.device)
    return triton_kernels.fastest_launch(LAUNCHES, case, prepare)


def probe(device: torch.device) -> None:
    """Runs each kernel once, on a batch whose results are known.

    Raises:
        RuntimeError: One of them is wrong; or whatever Triton raises.
    """
    x = torch.arange(2 * 4 * 3 * 3, device=device, dtype=torch.float32).view(2, 4, 3, 3).sin()
    ones, per_sample = torch.ones(4, device=device), torch.ones(2, device=device)
    mixed = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False) - x
    y, _ = forward(x, per_sample, ones, None, 3, LAUNCHES[0])
    sums = sums_for_backward(x, x, 3)
    options: Any = {
        "gain": per_sample,
        "mean": 0 * per_sample,
        "pull": 0 * per_sample,
        "scale": ones,
        "res_scale": None,
    }
    grad = backward(x, x, **options, pool_size=3, launch=LAUNCHES[0])
    # <g, (1 + M) x> = <(1 + M') g, x>, here with g = x.
    pairs = ((y, x + mixed), (sums, (x * mixed).sum(dim=(2, 3))), ((grad * x).sum(), (x * y).sum()))
    if not all(torch.allclose(actual, expected, rtol=1e-3, atol=1e-3) for actual, expected in pairs):
        raise RuntimeError("a kernel's result is wrong")


def _moments(sums: Tensor, count: int) -> Tensor:
    total = sums.sum(dim=1, dtype=torch.float64) / count
    return torch.stack([total[:, 0], (total[:, 1] - total[:, 0].square()).clamp(min=0)], dim=1).float()
