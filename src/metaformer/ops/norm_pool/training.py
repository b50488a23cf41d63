"""The fused pooling sub-block for training: keeps the input and two numbers a sample, nothing else.

How it is computed is chosen once, by `choose_trained_pool`.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from metaformer.ops.arguments import settings_of
from metaformer.ops.native.library import native_library
from metaformer.ops.norm_pool.native import NativeNormPool
from metaformer.ops.norm_pool.reference import NormPool
from metaformer.ops.normalise import sample_moments
from metaformer.ops.pool_mix import pool_mix
from metaformer.ops.triton_kernels import triton_kernels


@dataclass(frozen=True, kw_only=True, eq=False)
class _Statistics:
    """What the norm and stochastic depth are for each sample, as columns."""

    mean: Tensor
    rstd: Tensor
    gain: Tensor  # factor * rstd


@runtime_checkable
class TrainedPool(Protocol):
    """The passes of the sub-block with norm "sample"."""

    def forward(self, x: Tensor, moments: Tensor, op: NormPool, factor: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sub-block and the moments of the result."""

    def sums(self, x: Tensor, grad: Tensor, op: NormPool, dtype: torch.dtype) -> Tensor:
        """Sums of grad * (P x - x) over the tokens of each sample and channel: all that scale and rstd need."""

    def grad_of_input(self, x: Tensor, grad: Tensor, op: NormPool, statistics: _Statistics, pull: Tensor) -> Tensor:
        """res_scale * g + gain * (P' - 1)(scale * g) - pull * (x - mean)."""


def choose_trained_pool(*, device: torch.device, dtype: torch.dtype) -> TrainedPool:
    """The fastest way that works here, for features of that dtype."""
    if device.type == "cuda" and dtype != torch.float64:
        kernels = triton_kernels("norm_pool", device)
        if kernels is not None:
            return PoolInTriton(kernels)
    if device.type == "cpu" and dtype == torch.float32 and native_library() is not None:
        return PoolInCpp()
    return PlainPool()


# A compiler goes around it: kernels of our own are no Python for it to read.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def trained_norm_pool(
    x: Float[Tensor, "b c h w"],
    op: NormPool,
    way: TrainedPool,
    *,
    bias: Float[Tensor, " c"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
    """`norm_pool` with norm "sample" and a backward pass of its own; both results can be differentiated.

    Args:
        x: Features.
        op: Weights and settings.
        way: From `choose_trained_pool`.
        bias: The norm's bias, which cancels: its gradient is zero, not missing.
        factor: Of the branch, one a sample; None is 1.
    """
    # What is multiplied with the statistics is in their dtype, whatever that of the features.
    scale = op.scale.to(torch.promote_types(op.scale.dtype, torch.float32))
    res_scale = None if op.res_scale is None else op.res_scale.to(scale.dtype)
    y, moments = _NormPool.apply(x, scale, bias, res_scale, factor, op, way)
    return y, moments


class PlainPool:
    """In PyTorch's own operators."""

    def forward(self, x: Tensor, moments: Tensor, op: NormPool, factor: Tensor | None) -> tuple[Tensor, Tensor]:
        gain = _statistics(moments, factor, op.eps).gain
        skip = x if op.res_scale is None else x * op.res_scale[:, None, None].to(x.dtype)
        y = torch.addcmul(skip, pool_mix(x, op.pool_size), (gain * op.scale)[:, :, None, None].to(x.dtype))
        return y, sample_moments(y)

    def sums(self, x: Tensor, grad: Tensor, op: NormPool, dtype: torch.dtype) -> Tensor:
        return (grad * pool_mix(x, op.pool_size)).sum(dim=(2, 3), dtype=dtype)

    def grad_of_input(self, x: Tensor, grad: Tensor, op: NormPool, statistics: _Statistics, pull: Tensor) -> Tensor:
        through = grad * (statistics.gain * op.scale)[:, :, None, None].to(grad.dtype)
        grad_x = _transposed_pool_mix(through, x, op.pool_size)
        centred = x - statistics.mean[:, :, None, None].to(x.dtype)
        grad_x = torch.addcmul(grad_x, centred, -pull[:, :, None, None].to(x.dtype))
        return grad_x + (grad if op.res_scale is None else grad * op.res_scale[:, None, None].to(grad.dtype))


class PoolInCpp(PlainPool):
    """Forward in C++."""

    def forward(self, x: Tensor, moments: Tensor, op: NormPool, factor: Tensor | None) -> tuple[Tensor, Tensor]:
        if factor is not None:
            # The mean cancels, so that a sample's factor is one of its rstd: infinitely wide for a dropped branch.
            variance = (moments[:, 1] + op.eps) / factor.square() - op.eps
            moments = torch.stack([moments[:, 0], variance], dim=1)
        y, y_moments = NativeNormPool.pack(op, want_moments=True).run(x, moments)
        assert y_moments is not None
        return y, y_moments


@dataclass(frozen=True)
class PoolInTriton:
    """By the kernels of `triton.py`."""

    kernels: ModuleType

    def forward(self, x: Tensor, moments: Tensor, op: NormPool, factor: Tensor | None) -> tuple[Tensor, Tensor]:
        gain = _statistics(moments, factor, op.eps).gain.flatten()
        launch = self.kernels.LAUNCHES[0]
        made: tuple[Tensor, Tensor] = self.kernels.forward(x, gain, op.scale, op.res_scale, op.pool_size, launch)
        return made

    def sums(self, x: Tensor, grad: Tensor, op: NormPool, dtype: torch.dtype) -> Tensor:
        made: Tensor = self.kernels.sums_for_backward(x, grad, op.pool_size)
        return made.to(dtype)

    def grad_of_input(self, x: Tensor, grad: Tensor, op: NormPool, statistics: _Statistics, pull: Tensor) -> Tensor:
        made: Tensor = self.kernels.backward(
            x,
            grad,
            gain=statistics.gain.flatten(),
            mean=statistics.mean.flatten().contiguous(),
            pull=pull.flatten(),
            scale=op.scale,
            res_scale=op.res_scale,
            pool_size=op.pool_size,
            launch=self.kernels.LAUNCHES[0],
        )
        return made


class _NormPool(torch.autograd.Function):
    """y = res_scale * x + factor * rstd * scale * (P x - x), P the pooling, rstd that of each sample of x.

    The README derives the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        res_scale: Tensor | None,
        factor: Tensor | None,
        op: NormPool,
        way: TrainedPool,
    ) -> tuple[Tensor, Tensor]:
        moments = sample_moments(x)
        ctx.save_for_backward(x, moments, scale, res_scale, factor)
        ctx.settings, ctx.way, ctx.has_bias = settings_of(op), way, bias is not None
        return way.forward(x, moments, replace(op, scale=scale, res_scale=res_scale), factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_moments: Tensor) -> tuple[Tensor | None, ...]:
        x, moments, scale, res_scale, factor = ctx.saved_tensors
        op, way = NormPool(scale=scale, res_scale=res_scale, **ctx.settings), ctx.way
        if any(ctx.needs_input_grad[index] for index in (0, 1, 3)) and grad_moments is not None and grad_moments.any():
            # The moments were made from y, which was not kept.
            grad = _with_moments(grad, grad_moments, *way.forward(x, moments, op, factor))
        statistics = _statistics(moments, factor, op.eps)
        sums = way.sums(x, grad, op, moments.dtype)
        grad_scale = (statistics.gain * sums).sum(dim=0).to(scale.dtype)
        # d rstd / d x = -rstd^3 (x - mean) / n, and gain is factor * rstd.
        pull = (sums * scale).sum(dim=1, keepdim=True) / x.shape[1:].numel()
        pull = statistics.gain * statistics.rstd.square() * pull
        grad_x = way.grad_of_input(x, grad, op, statistics, pull)
        grad_res = None if res_scale is None else (grad * x).sum(dim=(0, 2, 3)).to(res_scale.dtype)
        grad_bias = torch.zeros_like(scale) if ctx.has_bias else None
        return grad_x, grad_scale, grad_bias, grad_res, None, None, None


def _statistics(moments: Tensor, factor: Tensor | None, eps: float) -> _Statistics:
    mean, rstd = moments[:, :1], torch.rsqrt(moments[:, 1:] + eps)
    gain = rstd if factor is None else rstd * factor[:, None].to(rstd.dtype)
    return _Statistics(mean=mean, rstd=rstd, gain=gain)


def _with_moments(grad: Tensor, grad_moments: Tensor, y: Tensor, y_moments: Tensor) -> Tensor:
    """The gradient of y, with what comes back through mean and variance of y."""
    count = y.shape[1:].numel()
    shift, pull = grad_moments[:, 0] / count, 2 * grad_moments[:, 1] / count
    centred = y - y_moments[:, 0, None, None, None].to(y.dtype)
    return grad + shift[:, None, None, None].to(y.dtype) + centred * pull[:, None, None, None].to(y.dtype)


def _transposed_pool_mix(grad: Tensor, x: Tensor, pool_size: int) -> Tensor:
    """What `pool_mix` hands back: each window's gradient, divided by its tokens, to all of its tokens."""
    if x.is_contiguous(memory_format=torch.channels_last):
        grad = grad.contiguous(memory_format=torch.channels_last)
    reach = pool_size // 2
    window = ([pool_size, pool_size], [1, 1], [reach, reach])
    pooled = torch.ops.aten.avg_pool2d_backward(grad, x, *window, False, False, None)
    return pooled - grad
