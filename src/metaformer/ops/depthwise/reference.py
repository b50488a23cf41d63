"""The definition of the depthwise convolution, in plain PyTorch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Depthwise:
    """The weights: one window a channel, stride 1, zeros outside."""

    weight: Tensor  # (C, 1, K, K), K odd
    bias: Tensor  # (C)


def depthwise(x: Float[Tensor, "b c h w"], op: Depthwise) -> Float[Tensor, "b c h w"]:
    """The convolution, computed in float32 or wider."""
    wide = x if x.dtype == torch.float64 else x.float()
    weight, bias = op.weight.to(wide), op.bias.to(wide)
    return F.conv2d(wide, weight, bias, padding=weight.shape[-1] // 2, groups=x.shape[1]).to(x.dtype)
