"""Pooling as a token mixer."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Axes of the grid -> average pooling.
AVERAGE_POOLINGS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def pool_mix(x: Float[Tensor, "b c *grid"], pool_size: int) -> Float[Tensor, "b c *grid"]:
    """The mean of each token's window, minus the token.

    On a grid of one, two or three axes. Padding is left out of the mean, so a constant map gives exactly zero.

    Source: arXiv:2111.11418, Eq. 4 and Algorithm 1. Equation 4 divides by K*K even at the border; the authors' code,
    like ours, divides by the number of tokens in the window.
    """
    return AVERAGE_POOLINGS[x.ndim - 2](x, pool_size, stride=1, padding=pool_size // 2, count_include_pad=False) - x
