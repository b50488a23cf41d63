"""Average pooling."""

from dataclasses import dataclass

import torch.fx
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.site import Site
from metaformer.core.checked import check_window
from metaformer.ops.pool_mix import pool_mix

# A leaf for torch.fx: which pooling it is depends on the number of axes.
torch.fx.wrap("pool_mix")


@dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    """Average pooling over a window of the same side along each axis, minus the input."""

    pool_size: int = 3  # side of the window, in tokens

    def __post_init__(self) -> None:
        check_window(self, "pool_size")

    def build(self, site: Site) -> "Pooling":
        return Pooling(self)


class Pooling(nn.Module):
    """Replaces each token by its local mean, minus itself.

    The block adds the input back, so the subtraction leaves pure mixing.

    Source: arXiv:2111.11418, Sec. 3.2 and Algorithm 1.
    """

    def __init__(self, config: PoolingConfig) -> None:
        super().__init__()
        self.pool_size = config.pool_size

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        return pool_mix(x, self.pool_size)

    def extra_repr(self) -> str:
        return f"pool_size={self.pool_size}"
