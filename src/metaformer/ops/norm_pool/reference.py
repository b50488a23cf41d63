"""The definition of the fused pooling sub-block, in plain PyTorch."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from metaformer.ops.normalise import normalise, sample_moments
from metaformer.ops.pool_mix import pool_mix


@dataclass(frozen=True, kw_only=True, eq=False)
class NormPool:
    """Weights and settings of the sub-block."""

    scale: Tensor  # (C); the norm's weight times LayerScale
    res_scale: Tensor | None = None  # (C); ResScale, None is 1
    pool_size: int = 3  # side of the window, in tokens
    norm: str = "sample"  # a name in NORM_KINDS
    eps: float = 1e-5  # of the norm, added to the variance


def norm_pool(
    x: Float[Tensor, "b c h w"],
    op: NormPool,
    *,
    moments: Float[Tensor, "b 2"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
    """The pooling sub-block, and mean and variance of each sample of the result.

    y = res_scale * x + factor * scale * (pool(n) - n), with n = norm(x)

    The bias of the norm is left out because it cancels: a window's weights sum to 1. The README derives it.

    Args:
        x: Features.
        op: Weights and settings.
        moments: Mean and variance of each sample of x, where they are known.
        factor: Of the branch, one a sample: 0 or 1/(1 - rate) for stochastic depth; None is 1.
    """
    branch = op.scale[:, None, None] * pool_mix(normalise(x, op.norm, eps=op.eps, moments=moments), op.pool_size)
    if factor is not None:
        branch = factor[:, None, None, None] * branch
    skip = x if op.res_scale is None else op.res_scale[:, None, None] * x
    y = (skip + branch).to(x.dtype)
    return y, sample_moments(y)
