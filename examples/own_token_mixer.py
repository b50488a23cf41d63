"""A token mixer of your own, in a PoolFormer: run it with `python examples/own_token_mixer.py`."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import metaformer as mf
from metaformer.models.zoo import POOLFORMER_S12


@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    """Each quarter of the channels comes from another neighbour."""

    step: int = 1  # how far away the neighbour is, in tokens

    def build(self, site: mf.Site) -> nn.Module:
        return Shift(self.step)


class Shift(nn.Module):
    """Costs no parameters and no multiply-adds."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        up, down, left, right = x.chunk(4, dim=1)
        rolls = ((up, self.step, 2), (down, -self.step, 2), (left, self.step, 3), (right, -self.step, 3))
        return torch.cat([part.roll(step, dims=axis) for part, step, axis in rolls], dim=1) - x


if __name__ == "__main__":
    mf.TOKEN_MIXERS.add("shift", ShiftConfig)
    model = mf.MetaFormer(replace(POOLFORMER_S12, token_mixers=(ShiftConfig(),) * 4))
    cost = mf.profile(model)
    print(f"{cost.params / 1e6:.1f} M parameters, {cost.macs / 1e9:.2f} G multiply-adds")
    print(tuple(model(torch.randn(1, 3, 224, 224)).shape))
