"""Stochastic depth."""

import torch
from jaxtyping import Float
from torch import Tensor


def drop_path(x: Float[Tensor, "b ..."], rate: float) -> Float[Tensor, "b ..."]:
    """Sets whole samples to zero with probability `rate`, and scales the others so that the expectation stays.

    Source: arXiv:1603.09382 (stochastic depth), per sample as in timm.
    """
    keep = torch.rand(x.shape[:1] + (1,) * (x.ndim - 1), device=x.device) >= rate
    return x * (keep.to(x.dtype) / (1 - rate))
