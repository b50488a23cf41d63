"""Stochastic depth."""

import torch
from jaxtyping import Float
from torch import Tensor


def drop_path(
    x: Float[Tensor, "b ..."], rate: float, noise: Float[Tensor, " b"] | None = None
) -> Float[Tensor, "b ..."]:
    """Sets whole samples to zero with probability `rate`, and scales the others so that the expectation stays.

    Args:
        x: The branch.
        rate: Below 1.
        noise: A number in [0, 1) a sample; those below `rate` are dropped. None draws them.

    Source: arXiv:1603.09382 (stochastic depth), per sample as in timm.
    """
    if noise is None:
        noise = torch.rand(x.shape[0], device=x.device)
    keep = (noise >= rate).view(-1, *(1,) * (x.ndim - 1))
    return x * (keep.to(x.dtype) / (1 - rate))
