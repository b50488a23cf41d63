"""Two linear layers over the tokens."""

from dataclasses import dataclass

import torch.fx
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.site import Grid, Site, require_grid
from metaformer.core.checked import check_number
from metaformer.ops.resize_grid import resize_map, resize_rows

torch.fx.wrap("require_grid")


@dataclass(frozen=True, kw_only=True)
class TwoLayerSpatialMLPConfig:
    """An MLP over the tokens, the same for every channel: the token mixer of MLP-Mixer."""

    hidden_ratio: float = 0.5  # hidden units per channel, not per token, as in the paper
    activation: str = "gelu"  # a name in ACTIVATIONS

    def __post_init__(self) -> None:
        # Looked up here, so that a misspelt name fails where it is written.
        ACTIVATIONS[self.activation]
        check_number(self, "hidden_ratio", above=0, most=10_000, hint="MLP-Mixer has 0.5.")

    def build(self, site: Site) -> "TwoLayerSpatialMLP":
        return TwoLayerSpatialMLP(site, self)


class TwoLayerSpatialMLP(nn.Module):
    """W2 activation(W1 X) over the token axis.

    Source: arXiv:2105.01601, Eq. 1.
    """

    def __init__(self, site: Site, config: TwoLayerSpatialMLPConfig) -> None:
        super().__init__()
        self.grid = site.grid
        self.path = site.path
        hidden = max(1, int(site.dim * config.hidden_ratio))
        self.fc1 = nn.Linear(site.num_tokens, hidden)
        self.activation = ACTIVATIONS[config.activation]()
        self.fc2 = nn.Linear(hidden, site.num_tokens)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        x = require_grid(x, self.grid, f"the spatial MLP of {self.path}")
        return self.fc2(self.activation(self.fc1(x.flatten(2)))).unflatten(2, self.grid)

    @staticmethod
    def resize(state: dict[str, Tensor], old_grid: Grid, new_grid: Grid) -> dict[str, Tensor]:
        """Interpolates over the grid; the first layer scaled by N_old / N_new, so that hidden units keep their size."""
        first, second = state["fc1.weight"], state["fc2.weight"]
        bias_map = state["fc2.bias"].reshape(1, 1, *old_grid)
        resized = resize_rows(first, old_grid, new_grid)
        return {
            "fc1.weight": resized * (first.shape[1] / resized.shape[1]),
            "fc1.bias": state["fc1.bias"],
            "fc2.weight": resize_rows(second.T, old_grid, new_grid).T.contiguous(),
            "fc2.bias": resize_map(bias_map, new_grid).flatten(),
        }

    def extra_repr(self) -> str:
        return f"grid={self.grid}"
