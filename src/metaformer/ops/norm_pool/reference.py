"""The definition of the fused pooling sub-block, in plain PyTorch."""

from jaxtyping import Float
from torch import Tensor

from metaformer.ops.normalise import normalise, sample_moments
from metaformer.ops.pool_mix import pool_mix


def norm_pool(
    x: Float[Tensor, "b c h w"],
    scale: Float[Tensor, " c"],
    *,
    pool_size: int,
    norm: str = "sample",
    eps: float = 1e-5,
    moments: Float[Tensor, "b 2"] | None = None,
    res_scale: Float[Tensor, " c"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
    """The pooling sub-block, and mean and variance of each sample of the result.

    y = res_scale * x + factor * scale * (pool(n) - n), with n = norm(x)

    The bias of the norm is left out because it cancels: a window's weights sum to 1. The README derives it.

    Args:
        x: Features.
        scale: The norm's weight times LayerScale.
        pool_size: Side of the window, in tokens.
        norm: A name in NORM_KINDS.
        eps: Of the norm, added to the variance.
        moments: Mean and variance of each sample of x, where they are known.
        res_scale: ResScale; None is 1.
        factor: Of the branch, one a sample: 0 or 1/(1 - rate) for stochastic depth; None is 1.
    """
    branch = scale[:, None, None] * pool_mix(normalise(x, norm, eps=eps, moments=moments), pool_size)
    if factor is not None:
        branch = factor[:, None, None, None] * branch
    skip = x if res_scale is None else res_scale[:, None, None] * x
    y = (skip + branch).to(x.dtype)
    return y, sample_moments(y)
