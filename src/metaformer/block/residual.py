"""The residual connection around the token mixer and around the channel MLP."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.checked import MOST, check_number
from metaformer.core.errors import ConfigError
from metaformer.ops.drop_path import drop_path


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """How a branch f(x) joins its input x: res_scale * x + layer_scale * f(x)."""

    skip: bool = True  # False: the output is the branch alone (the paper's ablation)
    layer_scale_init: float | None = None  # first value of LayerScale, per channel; None: no LayerScale
    res_scale_init: float | None = None  # first value of ResScale, per channel; None: no ResScale

    def __post_init__(self) -> None:
        for name in ("layer_scale_init", "res_scale_init"):
            check_number(self, name, optional=True, least=-MOST)
        if self.res_scale_init is not None and not self.skip:
            raise ConfigError(
                "ResidualConfig.res_scale_init scales the input that the residual connection adds, and skip=False "
                "leaves that out. Set res_scale_init to None."
            )

    def build(self, dim: int, drop_path: float) -> "Residual":
        return Residual(dim, drop_path, self)


class Residual(nn.Module):
    """res_scale * x + drop_path(layer_scale * branch).

    Without the skip connection stochastic depth has nothing to fall back on, so it is left out too. Which samples it
    drops is drawn here, unless somebody who knows more about them sets `drop_path_noise` before each batch.

    Source: arXiv:2111.11418, Eqs. 2-3; LayerScale, arXiv:2103.17239; ResScale, arXiv:2110.09456.
    """

    def __init__(self, dim: int, drop_path: float, config: ResidualConfig) -> None:
        super().__init__()
        self.skip = config.skip
        self.drop_path = drop_path if config.skip else 0.0
        self.layer_scale = _per_channel(dim, config.layer_scale_init)
        self.res_scale = _per_channel(dim, config.res_scale_init)
        # A number in [0, 1) a sample. No buffer: processes of one training hold different samples.
        self.drop_path_noise: Tensor | None = None

    def forward(self, x: Float[Tensor, "b c *grid"], branch: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        if self.layer_scale is not None:
            branch = _scaled(branch, self.layer_scale)
        if self.training and self.drop_path > 0:
            branch = drop_path(branch, self.drop_path, self.drop_path_noise)
        if not self.skip:
            return branch
        if self.res_scale is not None:
            x = _scaled(x, self.res_scale)
        return x + branch

    def extra_repr(self) -> str:
        return f"skip={self.skip}, drop_path={self.drop_path:.3g}"


class LeftOut(nn.Module):
    """Stands where a sub-block is left out: passes the input on, whatever the branch is."""

    def forward(self, x: Float[Tensor, "b c *grid"], branch: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        return x


def _scaled(x: Float[Tensor, "b c *grid"], scale: Float[Tensor, " c"]) -> Float[Tensor, "b c *grid"]:
    return (x.movedim(1, -1) * scale).movedim(-1, 1)


def _per_channel(dim: int, value: float | None) -> nn.Parameter | None:
    return None if value is None else nn.Parameter(torch.full((dim,), value))
