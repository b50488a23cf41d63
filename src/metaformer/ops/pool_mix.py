"""Pooling as a token mixer."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pool_mix(x: Float[Tensor, "b c h w"], pool_size: int) -> Float[Tensor, "b c h w"]:
    """The mean of each token's window, minus the token.

    Padding is left out of the mean, so a constant map gives exactly zero.

    Source: arXiv:2111.11418, Eq. 4 and Algorithm 1. Equation 4 divides by K*K even at the border; the authors' code,
    like ours, divides by the number of tokens in the window.
    """
    return F.avg_pool2d(x, pool_size, stride=1, padding=pool_size // 2, count_include_pad=False) - x
