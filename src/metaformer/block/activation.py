"""Activations of the channel MLP."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.registry import Registry


class SquaredReLU(nn.Module):
    """ReLU(x)^2.

    Source: arXiv:2109.08668 (Primer).
    """

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return F.relu(x).square()


class StarReLU(nn.Module):
    """s * ReLU(x)^2 + b, with one learned s and one learned b.

    Source: arXiv:2210.13452, Eq. 8. The paper derives s = 0.8944 and b = -0.4472; its code starts at 1 and 0, and so
    does ours.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.scale * F.relu(x).square() + self.bias


ACTIVATIONS: Registry[type[nn.Module]] = Registry(
    "activation",
    {
        "gelu": nn.GELU,
        "relu": nn.ReLU,
        "silu": nn.SiLU,
        "squared_relu": SquaredReLU,
        "star_relu": StarReLU,
    },
)
