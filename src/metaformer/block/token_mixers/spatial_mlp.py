"""One linear layer over the tokens."""

from dataclasses import dataclass

import torch.fx
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.site import Grid, Site, require_grid
from metaformer.ops.resize_grid import resize_map, resize_token_matrix

torch.fx.wrap("require_grid")


@dataclass(frozen=True, kw_only=True)
class SpatialMLPConfig:
    """Each token becomes a learned weighted sum of all tokens, the same for every channel."""

    bias: bool = False

    def build(self, site: Site) -> "SpatialMLP":
        return SpatialMLP(site, self)


class SpatialMLP(nn.Module):
    """X' = W X over the token axis.

    Source: arXiv:2111.11418, Sec. 4.3 ("spatial FC"); bias off as in the authors' code.
    """

    def __init__(self, site: Site, config: SpatialMLPConfig) -> None:
        super().__init__()
        self.grid = site.grid
        self.path = site.path
        self.fc = nn.Linear(site.num_tokens, site.num_tokens, bias=config.bias)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        x = require_grid(x, self.grid, f"the spatial MLP of {self.path}")
        return self.fc(x.flatten(2)).unflatten(2, self.grid)

    @staticmethod
    def resize(state: dict[str, Tensor], old_grid: Grid, new_grid: Grid) -> dict[str, Tensor]:
        """Interpolates the weights over both grids, scaled by N_old / N_new; a bias as a map."""
        resized = {"fc.weight": resize_token_matrix(state["fc.weight"], old_grid, new_grid)}
        if "fc.bias" in state:
            bias_map = state["fc.bias"].reshape(1, 1, *old_grid)
            resized["fc.bias"] = resize_map(bias_map, new_grid).flatten()
        return resized

    def extra_repr(self) -> str:
        return f"grid={self.grid}"
