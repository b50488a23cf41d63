"""Weights that are tied to a token grid, moved to another grid."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Grid = tuple[int, int]


def resize_map(x: Float[Tensor, "b c h w"], new_grid: Grid) -> Float[Tensor, "b c h2 w2"]:
    """A learned map, one vector a token, interpolated (bicubic, antialiased) to the new grid."""
    return F.interpolate(x, size=new_grid, mode="bicubic", antialias=True, align_corners=False)


def resize_token_matrix(matrix: Float[Tensor, "n m"], old_grid: Grid, new_grid: Grid) -> Float[Tensor, "n2 m2"]:
    """A matrix from tokens to tokens, interpolated over both of its grids.

    Each row is an image over the old grid, and so is each column. Linear interpolation keeps the signs of the
    entries. The result is scaled by N_old / N_new, so that a row keeps the sum of its weights: each token still
    receives as much from the whole grid as before.
    """
    num_old, num_new = old_grid[0] * old_grid[1], new_grid[0] * new_grid[1]
    rows = _resize_rows(matrix, old_grid, new_grid)
    both = _resize_rows(rows.T, old_grid, new_grid).T
    return both.contiguous() * (num_old / num_new)


def _resize_rows(matrix: Float[Tensor, "n m"], old_grid: Grid, new_grid: Grid) -> Float[Tensor, "n m2"]:
    images = matrix.reshape(-1, 1, *old_grid)
    resized = F.interpolate(images, size=new_grid, mode="bilinear", antialias=True, align_corners=False)
    return resized.flatten(1)
