"""Weights that are tied to a token grid, moved to another grid of as many axes."""

from math import prod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Grid = tuple[int, ...]


def resize_map(x: Float[Tensor, "b c *grid"], new_grid: Grid) -> Float[Tensor, "b c *new_grid"]:
    """A learned map, one vector a token, interpolated (bicubic, antialiased) to the new grid."""
    return _interpolate(x, new_grid, "bicubic")


def resize_token_matrix(matrix: Float[Tensor, "n m"], old_grid: Grid, new_grid: Grid) -> Float[Tensor, "n2 m2"]:
    """A matrix from tokens to tokens, interpolated over both of its grids.

    Each row is an image over the old grid, and so is each column. Linear interpolation keeps the signs of the
    entries. The result is scaled by N_old / N_new, so that a row keeps the sum of its weights: each token still
    receives as much from the whole grid as before.
    """
    rows = resize_rows(matrix, old_grid, new_grid)
    both = resize_rows(rows.T, old_grid, new_grid).T
    return both.contiguous() * (prod(old_grid) / prod(new_grid))


def resize_rows(matrix: Float[Tensor, "n m"], old_grid: Grid, new_grid: Grid) -> Float[Tensor, "n m2"]:
    """Each row as an image over the old grid, interpolated (linear, antialiased) to the new one."""
    return _interpolate(matrix.reshape(-1, 1, *old_grid), new_grid, "bilinear").flatten(1)


def _interpolate(x: Float[Tensor, "b c *grid"], new_grid: Grid, mode: str) -> Float[Tensor, "b c *new_grid"]:
    if len(new_grid) == 2:
        return F.interpolate(x, size=new_grid, mode=mode, antialias=True, align_corners=False)
    # PyTorch antialiases on two axes only, and these interpolations are made of one axis after the other.
    for axis, side in enumerate(new_grid, start=2):
        lines = x.movedim(axis, -1)
        flat = lines.reshape(1, -1, 1, lines.shape[-1])
        resized = F.interpolate(flat, size=(1, side), mode=mode, antialias=True, align_corners=False)
        x = resized.reshape(*lines.shape[:-1], side).movedim(-1, axis)
    return x
