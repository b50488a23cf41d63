"""A token mixer of your own and its card: `metaformer card examples/card_of_own_mixer.py:BlurPoolConfig`."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metaformer as mf


@dataclass(frozen=True, kw_only=True)
class BlurPoolConfig:
    """Each token becomes a binomial average of its neighbours, scaled by a learned number a channel, minus itself."""

    strength: float = 1.0  # of the blur, where training begins

    def build(self, site: mf.Site) -> nn.Module:
        return BlurPool(site.dim, self.strength)


class BlurPool(nn.Module):
    """Pooling with a smoother window and one parameter a channel."""

    def __init__(self, dim: int, strength: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), strength))
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("window", (row[:, None] * row).expand(dim, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return self.scale[:, None, None] * F.conv2d(padded, self.window, groups=x.shape[1]) - x


if __name__ == "__main__":
    mixer = BlurPoolConfig().build(mf.Site(8, (7, 7), 0, 0))
    print(tuple(mixer(torch.randn(1, 8, 7, 7)).shape))
