"""The fused pooling sub-block for training: keeps the input and two numbers a sample, nothing else."""

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from metaformer.ops.norm_pool.operator import norm_pool as operator
from metaformer.ops.normalise import sample_moments
from metaformer.ops.pool_mix import pool_mix
from metaformer.ops.triton_kernels import triton_kernels


# A compiler goes around it: kernels of our own are no Python for it to read.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def trained_norm_pool(
    x: Float[Tensor, "b c h w"],
    scale: Float[Tensor, " c"],
    bias: Float[Tensor, " c"] | None,
    *,
    pool_size: int,
    eps: float,
    res_scale: Float[Tensor, " c"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
    """`norm_pool` with norm "sample" and a backward pass of its own; both results can be differentiated.

    Args:
        x: Features.
        scale: The norm's weight times LayerScale.
        bias: The norm's bias, which cancels: its gradient is zero, not missing.
        pool_size: Side of the window, in tokens.
        eps: Of the norm, added to the variance.
        res_scale: ResScale; None is 1.
        factor: Of the branch, one a sample; None is 1.
    """
    # What is multiplied with the statistics is in their dtype, whatever that of the features.
    scale = scale.to(torch.promote_types(scale.dtype, torch.float32))
    res_scale = None if res_scale is None else res_scale.to(scale.dtype)
    y, moments = _NormPool.apply(x, scale, bias, res_scale, factor, pool_size, eps)
    return y, moments


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
        pool_size: int,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        moments = sample_moments(x)
        ctx.save_for_backward(x, moments, scale, res_scale, factor)
        ctx.pool_size, ctx.eps, ctx.has_bias = pool_size, eps, bias is not None
        if factor is None and not x.is_cuda:
            return operator(x, moments, scale, res_scale, pool_size, "sample", eps, True)
        return _forward(x, moments, scale, res_scale, factor, pool_size, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_moments: Tensor) -> tuple[Tensor | None, ...]:
        x, moments, scale, res_scale, factor = ctx.saved_tensors
        pool_size, eps = ctx.pool_size, ctx.eps
        if any(ctx.needs_input_grad[index] for index in (0, 1, 3)):
            grad = _with_moments(grad, grad_moments, (x, moments, scale, res_scale, factor, pool_size, eps))
        mean, gain, rstd = _statistics(moments, factor, eps)
        kernels = kernels_for(x)
        # Sums of grad * (P x - x) over the tokens of each sample and channel: all that scale and rstd need.
        if kernels is None:
            sums = (grad * pool_mix(x, pool_size)).sum(dim=(2, 3), dtype=mean.dtype)
        else:
            sums = kernels.sums_for_backward(x, grad, pool_size)
        grad_scale = (gain * sums).sum(dim=0).to(scale.dtype)
        # d rstd / d x = -rstd^3 (x - mean) / n, and gain is factor * rstd.
        pull = gain * rstd.square() * (sums * scale).sum(dim=1, keepdim=True) / x.shape[1:].numel()
        if kernels is None:
            grad_x = _grad_of_input(x, grad, (mean, gain, pull), scale, res_scale, pool_size)
        else:
            samples = {"gain": gain.flatten(), "mean": mean.flatten().contiguous(), "pull": pull.flatten()}
            options = {"pool_size": pool_size, "launch": kernels.fastest_launch(x, pool_size)}
            grad_x = kernels.backward(x, grad, **samples, scale=scale, res_scale=res_scale, **options)
        grad_res = None if res_scale is None else (grad * x).sum(dim=(0, 2, 3)).to(res_scale.dtype)
        return grad_x, grad_scale, torch.zeros_like(scale) if ctx.has_bias else None, grad_res, None, None, None


def _forward(
    x: Tensor,
    moments: Tensor,
    scale: Tensor,
    res_scale: Tensor | None,
    factor: Tensor | None,
    pool_size: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    _, gain, _ = _statistics(moments, factor, eps)
    kernels = kernels_for(x)
    if kernels is not None:
        launch = kernels.fastest_launch(x, pool_size)
        made: tuple[Tensor, Tensor] = kernels.forward(x, gain.flatten(), scale, res_scale, pool_size, launch)
        return made
    skip = x if res_scale is None else x * res_scale[:, None, None].to(x.dtype)
    y = torch.addcmul(skip, pool_mix(x, pool_size), (gain * scale)[:, :, None, None].to(x.dtype))
    return y, sample_moments(y)


def kernels_for(x: Tensor) -> ModuleType | None:
    """The Triton kernels, for what they compute: float32 and less on a GPU."""
    return triton_kernels("norm_pool", x.device) if x.is_cuda and x.dtype != torch.float64 else None


def _grad_of_input(
    x: Tensor,
    grad: Tensor,
    columns: tuple[Tensor, Tensor, Tensor],
    scale: Tensor,
    res_scale: Tensor | None,
    pool_size: int,
) -> Tensor:
    mean, gain, pull = columns
    through = grad * (gain * scale)[:, :, None, None].to(grad.dtype)
    grad_x = _transposed_pool_mix(through, x, pool_size)
    grad_x = torch.addcmul(grad_x, x - mean[:, :, None, None].to(x.dtype), -pull[:, :, None, None].to(x.dtype))
    return grad_x + (grad if res_scale is None else grad * res_scale[:, None, None].to(grad.dtype))


def _statistics(moments: Tensor, factor: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, factor * rstd and rstd of each sample, as columns."""
    mean, rstd = moments[:, :1], torch.rsqrt(moments[:, 1:] + eps)
    return mean, rstd if factor is None else rstd * factor[:, None].to(rstd.dtype), rstd


def _with_moments(grad: Tensor, grad_moments: Tensor | None, inputs: tuple[Any, ...]) -> Tensor:
    """The gradient of y, with what comes back through mean and variance of y."""
    if grad_moments is None or not grad_moments.any():
        return grad
    # The moments were made from y, which was not kept.
    y, y_moments = _forward(*inputs)
    count = y.shape[1:].numel()
    shift, pull = grad_moments[:, 0] / count, 2 * grad_moments[:, 1] / count
    centred = y - y_moments[:, 0, None, None, None].to(y.dtype)
    return grad + shift[:, None, None, None].to(y.dtype) + centred * pull[:, None, None, None].to(y.dtype)


def _transposed_pool_mix(grad: Tensor, x: Tensor, pool_size: int) -> Tensor:
    """What `pool_mix` hands back: each window's gradient, divided by its tokens, to all of its tokens."""
    reach = pool_size // 2
    pooled = torch.ops.aten.avg_pool2d_backward(
        grad.contiguous(memory_format=torch.channels_last)
        if x.is_contiguous(memory_format=torch.channels_last)
        else grad,
        x,
        [pool_size, pool_size],
        [1, 1],
        [reach, reach],
        False,
        False,
        None,
    )
    return pooled - grad
