"""Where in a model a token mixer sits."""

from dataclasses import dataclass

import torch.fx
from jaxtyping import Float
from torch import Tensor

from metaformer.core.errors import ShapeError

Grid = tuple[int, int]


@dataclass(frozen=True)
class Site:
    """All that a token mixer may know about the model around it."""

    dim: int  # channels
    grid: Grid  # height and width, in tokens, at the image size that the model is built for
    stage: int  # counted from 0
    index: int  # of the block within its stage, counted from 0

    @property
    def num_tokens(self) -> int:
        """N = H*W."""
        return self.grid[0] * self.grid[1]

    @property
    def path(self) -> str:
        """The module path of the block in its model."""
        return f"stages.{self.stage}.blocks.{self.index}"


def nearest_divisor(dim: int, wanted: int) -> int:
    """The divisor of a number of channels that is nearest to the wanted one; the smaller of two as near."""
    return min((size for size in range(1, dim + 1) if dim % size == 0), key=lambda size: abs(size - wanted))


# A leaf for torch.fx: tracing records the call, and the branch on the shape runs with real tensors.
@torch.fx.wrap
def require_grid(x: Float[Tensor, "b c h w"], grid: Grid, what: str) -> Float[Tensor, "b c h w"]:
    """Returns `x` if its height and width are `grid`.

    Raises:
        ShapeError: They are not; says how to get a model for them.
    """
    if tuple(x.shape[-2:]) != grid:
        raise ShapeError(
            f"{what} is built for a grid of {grid[0]}x{grid[1]} tokens; got {x.shape[-2]}x{x.shape[-1]}. "
            "Create the model with the image_size of your images: weights of another size are resized on loading."
        )
    return x
