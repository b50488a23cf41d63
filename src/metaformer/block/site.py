"""Where in a model a token mixer sits."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch.fx
from jaxtyping import Float
from torch import Tensor

from metaformer.core.errors import ShapeError

# Tokens along each axis, of which there are one, two or three.
Grid = tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """All that a token mixer may know about the model around it."""

    dim: int  # channels
    grid: Grid  # length; height and width; or depth, height and width: in tokens, for the model's image size
    stage: int  # counted from 0
    index: int  # of the block within its stage, counted from 0

    @property
    def num_tokens(self) -> int:
        """N, the product over the axes."""
        return prod(self.grid)

    @property
    def num_axes(self) -> int:
        """Of the grid: 1, 2 or 3."""
        return len(self.grid)

    @property
    def path(self) -> str:
        """The module path of the block in its model."""
        return f"stages.{self.stage}.blocks.{self.index}"


def format_grid(grid: Sequence[int]) -> str:
    """A grid or a size as text: 7x7."""
    return "x".join(str(side) for side in grid)


def nearest_divisor(dim: int, wanted: int) -> int:
    """The divisor of a number of channels that is nearest to the wanted one; the smaller of two as near."""
    return min((size for size in range(1, dim + 1) if dim % size == 0), key=lambda size: abs(size - wanted))


# A leaf for torch.fx: tracing records the call, and the branch on the shape runs with real tensors.
@torch.fx.wrap
def require_grid(x: Float[Tensor, "b c *grid"], grid: Grid, what: str) -> Float[Tensor, "b c *grid"]:
    """Returns `x` if its tokens are on `grid`.

    Raises:
        ShapeError: They are not; says how to get a model for them.
    """
    if tuple(x.shape[2:]) != grid:
        raise ShapeError(
            f"{what} is built for a grid of {format_grid(grid)} tokens; got {format_grid(x.shape[2:])}. "
            "Create the model with the image_size of your images: weights of another size are resized on loading."
        )
    return x
