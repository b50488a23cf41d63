"""Image or features to tokens, and where the tokens are."""

import torch
import torch.fx
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.site import Grid, require_grid
from metaformer.models.config import PatchEmbeddingConfig
from metaformer.ops.resize_grid import resize_map

torch.fx.wrap("require_grid")


class PatchEmbedding(nn.Module):
    """A strided convolution, with a norm before or after it, a maximum and an activation where the family has them.

    Source: arXiv:2111.11418, Table 1; norms, arXiv:2210.13452; padding as in the authors' code. The convolution keeps
    PyTorch's own initialisation, as in the first paper's code.
    """

    def __init__(self, in_chans: int, dim: int, config: PatchEmbeddingConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm.build(in_chans) if config.pre_norm else nn.Identity()
        self.conv = nn.Conv2d(in_chans, dim, config.kernel_size, stride=config.stride, padding=config.padding)
        self.max_pool = nn.MaxPool2d(config.max_pool) if config.max_pool > 1 else nn.Identity()
        self.post_norm = config.post_norm.build(dim) if config.post_norm else nn.Identity()
        self.activation = ACTIVATIONS[config.activation]() if config.activation else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return self.activation(self.post_norm(self.max_pool(self.conv(self.pre_norm(x)))))


class PositionEmbedding(nn.Module):
    """A learned vector for each place of the grid, added to its token; starts at zero.

    Source: arXiv:2111.11418, the authors' code for the hybrids with attention.
    """

    def __init__(self, dim: int, grid: Grid, path: str) -> None:
        super().__init__()
        self.grid = grid
        self.path = path
        self.weight = nn.Parameter(torch.zeros(1, dim, *grid))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return require_grid(x, self.grid, f"the position embedding of {self.path}") + self.weight

    @staticmethod
    def resize(state: dict[str, Tensor], old_grid: Grid, new_grid: Grid) -> dict[str, Tensor]:
        """Interpolates the map."""
        return {"weight": resize_map(state["weight"], new_grid)}

    def extra_repr(self) -> str:
        return f"grid={self.grid}"
