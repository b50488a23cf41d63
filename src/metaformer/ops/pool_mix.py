"""Pooling as a token mixer."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pool_mix(x: Float[Tensor, "b c *grid"], pool_size: int) -> Float[Tensor, "b c *grid"]:
    """The mean of each token's window, minus the token.

    On a grid of one, two or three axes. Padding is left out of the mean, so a constant map gives exactly zero.

    Source: arXiv:2111.11418, Eq. 4 and Algorithm 1. Equation 4 divides by K*K even at the border; the authors' code,
    like ours, divides by the number of tokens in the window.
    """
    if x.ndim == 3:
        return F.avg_pool1d(x, pool_size, stride=1, padding=pool_size // 2, count_include_pad=False) - x
    if x.ndim == 4:
        return _pool(x, (pool_size, pool_size)) - x
    # The window of three axes is one of height and width, then one of depth: PyTorch's own refuses grids thinner than
    # the window, although the padding is wide enough.
    planes = _pool(x.flatten(1, 2), (pool_size, pool_size)).unflatten(1, x.shape[1:3])
    return _pool(planes.flatten(3), (pool_size, 1)).reshape(x.shape) - x


def _pool(x: Float[Tensor, "b c h w"], window: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    padding = (window[0] // 2, window[1] // 2)
    return F.avg_pool2d(x, window, stride=1, padding=padding, count_include_pad=False)
