"""The definition of the fused channel MLP sub-block, in plain PyTorch."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from metaformer.ops.normalise import normalise, sample_moments

ACTIVATIONS = {
    "none": lambda x: x,
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "squared_relu": lambda x: F.relu(x).square(),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class NormMLP:
    """Weights and settings of the sub-block, hidden channels D."""

    weight1: Tensor  # (D, C); first layer, times the norm's weight
    bias1: Tensor  # (D); its bias, with the norm's bias sent through the layer
    weight2: Tensor  # (C, D); second layer, times LayerScale and the activation's scale
    bias2: Tensor  # (C); its bias likewise, with the activation's bias sent through the layer
    res_scale: Tensor | None = None  # (C); ResScale, None is 1
    activation: str = "gelu"  # a name in ACTIVATIONS
    norm: str = "sample"  # a name in NORM_KINDS
    eps: float = 1e-5  # of the norm, added to the variance
    skip: bool = True  # False leaves out the residual connection


def norm_mlp(
    x: Float[Tensor, "b c h w"],
    op: NormMLP,
    *,
    moments: Float[Tensor, "b 2"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
    """The MLP sub-block, and mean and variance of each sample of the result.

    z = res_scale * x + factor * (W2 activation(W1 norm(x) + b1) + b2)

    Args:
        x: Features.
        op: Weights and settings.
        moments: Mean and variance of each sample of x, where they are known.
        factor: Of the branch, one a sample; None is 1.
    """
    normed = normalise(x, op.norm, eps=op.eps, moments=moments)
    before = F.linear(normed.movedim(1, -1), op.weight1.to(normed), op.bias1.to(normed))
    hidden = ACTIVATIONS[op.activation](before)
    branch = F.linear(hidden, op.weight2.to(normed), op.bias2.to(normed)).movedim(-1, 1)
    if factor is not None:
        branch = factor[:, None, None, None] * branch
    if op.skip:
        branch = branch + (x if op.res_scale is None else op.res_scale[:, None, None] * x)
    z = branch.to(x.dtype)
    return z, sample_moments(z)
