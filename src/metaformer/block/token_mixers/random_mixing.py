"""A frozen random matrix over the tokens."""

from dataclasses import dataclass

import torch
import torch.fx
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.site import Grid, Site, require_grid
from metaformer.ops.resize_grid import resize_token_matrix

torch.fx.wrap("require_grid")


@dataclass(frozen=True, kw_only=True)
class RandomMixingConfig:
    """Each token becomes a fixed random average of all tokens."""

    def build(self, site: Site) -> "RandomMixing":
        return RandomMixing(site)


class RandomMixing(nn.Module):
    """X' = W X with W = softmax over rows of uniform numbers, drawn once and never trained.

    W is a buffer: saved with the weights, and no parameter is left without a gradient.

    Source: arXiv:2111.11418, Sec. 4.3 (ablation "global random matrix"); RandFormer of arXiv:2210.13452.
    """

    random_matrix: Float[Tensor, "n n"]

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.grid = site.grid
        self.path = site.path
        self.register_buffer("random_matrix", torch.empty(site.num_tokens, site.num_tokens))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the matrix anew."""
        self.random_matrix.uniform_()
        self.random_matrix.copy_(self.random_matrix.softmax(dim=-1))

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        x = require_grid(x, self.grid, f"the random matrix of {self.path}")
        mixed = x.flatten(2) @ self.random_matrix.T
        return mixed.unflatten(2, self.grid)

    @staticmethod
    def resize(state: dict[str, Tensor], old_grid: Grid, new_grid: Grid) -> dict[str, Tensor]:
        """Interpolates the matrix over both grids and normalises its rows again."""
        matrix = resize_token_matrix(state["random_matrix"], old_grid, new_grid)
        return {"random_matrix": matrix / matrix.sum(dim=-1, keepdim=True)}

    def extra_repr(self) -> str:
        return f"grid={self.grid}"
