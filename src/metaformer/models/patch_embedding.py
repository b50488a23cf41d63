"""Image or features to tokens, where the tokens are, and the token that stands for the whole image."""

import torch
import torch.fx
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.axes import CONVOLUTIONS, MAX_POOLINGS
from metaformer.block.site import Grid, require_grid
from metaformer.models.config import PatchEmbeddingConfig
from metaformer.ops.resize_grid import resize_map

torch.fx.wrap("require_grid")


class PatchEmbedding(nn.Module):
    """A strided convolution, with a norm before or after it, a maximum and an activation where the family has them.

    Source: arXiv:2111.11418, Table 1; norms, arXiv:2210.13452; padding as in the authors' code. The convolution
    starts as PyTorch has it in the first paper's models, and as every other layer in the second's.
    """

    def __init__(self, in_chans: int, dim: int, config: PatchEmbeddingConfig, num_axes: int = 2) -> None:
        super().__init__()
        in_chans *= config.merge**num_axes
        self.merge = MergeTokens(config.merge, num_axes) if config.merge > 1 else nn.Identity()
        self.pre_norm = config.pre_norm.build(in_chans) if config.pre_norm else nn.Identity()
        self.conv: nn.Conv1d | nn.Conv2d | nn.Conv3d = CONVOLUTIONS[num_axes](
            in_chans,
            dim,
            config.kernel_size,  # type: ignore[arg-type]  # one number, or as many as there are axes
            stride=config.stride,  # type: ignore[arg-type]
            padding=config.padding,  # type: ignore[arg-type]
            bias=config.bias,
        )
        self.max_pool = MAX_POOLINGS[num_axes](config.max_pool) if config.max_pool > 1 else nn.Identity()
        self.post_norm = config.post_norm.build(dim) if config.post_norm else nn.Identity()
        self.activation = ACTIVATIONS[config.activation]() if config.activation else nn.Identity()

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d *grid"]:
        return self.activation(self.post_norm(self.max_pool(self.conv(self.pre_norm(self.merge(x))))))


class MergeTokens(nn.Module):
    """The tokens of each window become one, their channels one behind the other; zeros fill up the last windows.

    Source: arXiv:2103.14030, Sec. 3.1; order as in the authors' code, where the last axis varies slowest.
    """

    def __init__(self, side: int, num_axes: int) -> None:
        super().__init__()
        self.side, self.num_axes = side, num_axes

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d *grid"]:
        missing = [-x.shape[axis] % self.side for axis in range(2, 2 + self.num_axes)]
        x = F.pad(x, [width for side in reversed(missing) for width in (0, side)])
        # (B, C, D, H, W) to (B, C, D/s, s, H/s, s, W/s, s): the insides of the windows are every second axis.
        for axis in range(self.num_axes):
            x = x.unflatten(2 + 2 * axis, (-1, self.side))
        inside = range(1 + 2 * self.num_axes, 2, -2)
        return x.permute(0, *inside, 1, *range(2, 2 + 2 * self.num_axes, 2)).flatten(1, 1 + self.num_axes)

    def extra_repr(self) -> str:
        return f"side={self.side}"


class PositionEmbedding(nn.Module):
    """A learned vector for each place of the grid, added to its token; starts at zero.

    Source: arXiv:2111.11418, the authors' code for the hybrids with attention.
    """

    def __init__(self, dim: int, grid: Grid, path: str) -> None:
        super().__init__()
        self.grid = grid
        self.path = path
        self.weight = nn.Parameter(torch.zeros(1, dim, *grid))

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        return require_grid(x, self.grid, f"the position embedding of {self.path}") + self.weight

    @staticmethod
    def resize(state: dict[str, Tensor], old_grid: Grid, new_grid: Grid) -> dict[str, Tensor]:
        """Interpolates the map."""
        weight = state["weight"]
        return {"weight": resize_map(weight.reshape(*weight.shape[:2], *old_grid), new_grid)}

    def extra_repr(self) -> str:
        return f"grid={self.grid}"


class ClassToken(nn.Module):
    """Puts a learned token before all others, which become a grid of one axis with it.

    Nothing in a block knows: to every token mixer it is one token more. Its place has a vector of its own, because
    weights of others keep the two apart.

    Source: arXiv:2010.11929, Eq. 1.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dim, 1))
        self.position = nn.Parameter(torch.zeros(1, dim, 1))

    def reset_parameters(self) -> None:
        """Draws the token anew."""
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.position)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c n"]:
        token = (self.weight + self.position).expand(x.shape[0], -1, -1)
        return torch.cat([token, x.flatten(2)], dim=2)
