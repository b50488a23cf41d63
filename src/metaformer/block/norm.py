"""Normalisation, before the token mixer and before the channel MLP."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.checked import check_number
from metaformer.core.configs import register_table
from metaformer.core.registry import Registry


@runtime_checkable
class NormConfig(Protocol):
    """Builds a normalisation for a number of channels."""

    def build(self, dim: int) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class ModifiedLayerNormConfig:
    """The paper's modified layer normalisation (MLN)."""

    eps: float = 1e-5  # added to the variance
    bias: bool = True

    def __post_init__(self) -> None:
        check_number(self, "eps", least=0)

    def build(self, dim: int) -> "ModifiedLayerNorm":
        return ModifiedLayerNorm(dim, self)


@dataclass(frozen=True, kw_only=True)
class LayerNormConfig:
    """Layer normalisation over the channels of each token."""

    eps: float = 1e-5  # added to the variance
    bias: bool = True

    def __post_init__(self) -> None:
        check_number(self, "eps", least=0)

    def build(self, dim: int) -> "LayerNorm":
        return LayerNorm(dim, self)


@dataclass(frozen=True, kw_only=True)
class BatchNormConfig:
    """Batch normalisation."""

    eps: float = 1e-5  # added to the variance
    momentum: float = 0.1  # share of the new batch in the running statistics

    def __post_init__(self) -> None:
        check_number(self, "eps", least=0)
        check_number(self, "momentum", least=0, most=1)

    def build(self, dim: int) -> "BatchNorm":
        return BatchNorm(dim, eps=self.eps, momentum=self.momentum)


@dataclass(frozen=True, kw_only=True)
class AffineConfig:
    """A learned scale and shift per channel in the place of a norm."""

    def build(self, dim: int) -> "Affine":
        return Affine(dim)


@dataclass(frozen=True, kw_only=True)
class NoNormConfig:
    """No normalisation."""

    def build(self, dim: int) -> nn.Identity:
        return nn.Identity()


class BatchNorm(nn.BatchNorm2d):
    """Normalises a channel by its mean and variance over batch and tokens, on a grid of any number of axes."""

    def _check_input_dim(self, x: Tensor) -> None:
        pass


class Affine(nn.Module):
    """weight * x + bias per channel: no statistics at all.

    Source: arXiv:2105.03404, Eq. 1 (ResMLP).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        return torch.addcmul(self.bias, x.movedim(1, -1), self.weight).movedim(-1, 1)


class ModifiedLayerNorm(nn.Module):
    """Normalises a sample by the mean and variance over channels and tokens together; affine per channel.

    The same function as GroupNorm with one group.

    Source: arXiv:2111.11418, Sec. 4.3 ("Modified Layer Normalization").
    """

    def __init__(self, dim: int, config: ModifiedLayerNormConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if config.bias else None

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        return F.group_norm(x, 1, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}, bias={self.bias is not None}"


class LayerNorm(nn.Module):
    """Normalises each token by the mean and variance over its channels.

    Source: arXiv:1607.06450; the authors' ablation of arXiv:2111.11418, Table 5 (`LayerNormChannel`).
    """

    def __init__(self, dim: int, config: LayerNormConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if config.bias else None

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        channels_last = x.movedim(1, -1)
        return F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}, bias={self.bias is not None}"


NORMS: Registry[type] = Registry(
    "norm",
    {
        "modified_layer_norm": ModifiedLayerNormConfig,
        "layer_norm": LayerNormConfig,
        "batch_norm": BatchNormConfig,
        "affine": AffineConfig,
        "none": NoNormConfig,
    },
)
register_table(NormConfig, NORMS)
