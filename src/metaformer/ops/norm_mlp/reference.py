"""The definition of the fused channel MLP sub-block, in plain PyTorch."""

import torch
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


def norm_mlp(
    x: Float[Tensor, "b c h w"],
    *,
    weight1: Float[Tensor, "d c"],
    bias1: Float[Tensor, " d"],
    weight2: Float[Tensor, "c d"],
    bias2: Float[Tensor, " c"],
    activation: str = "gelu",
    norm: str = "sample",
    eps: float = 1e-5,
    moments: Float[Tensor, "b 2"] | None = None,
    res_scale: Float[Tensor, " c"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
    skip: bool = True,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
    """The MLP sub-block, and mean and variance of each sample of the result.

    z = res_scale * x + factor * (W2 activation(W1 norm(x) + b1) + b2)

    Args:
        x: Features.
        weight1: First layer, times the norm's weight.
        bias1: Its bias, with the norm's bias sent through the layer.
        weight2: Second layer, times LayerScale and the activation's scale.
        bias2: Its bias likewise, with the activation's bias sent through the layer.
        activation: A name in ACTIVATIONS.
        norm: A name in NORM_KINDS.
        eps: Of the norm, added to the variance.
        moments: Mean and variance of each sample of x, where they are known.
        res_scale: ResScale; None is 1.
        factor: Of the branch, one a sample; None is 1.
        skip: False leaves out the residual connection.
    """
    normed = normalise(x, norm, eps=eps, moments=moments)
    hidden = ACTIVATIONS[activation](F.linear(normed.movedim(1, -1), weight1.to(normed), bias1.to(normed)))
    branch = F.linear(hidden, weight2.to(normed), bias2.to(normed)).movedim(-1, 1)
    if factor is not None:
        branch = factor[:, None, None, None] * branch
    if skip:
        branch = branch + (x if res_scale is None else res_scale[:, None, None] * x)
    z = branch.to(x.dtype)
    return z, sample_moments(z)


def fold_norm(
    weight1: Float[Tensor, "d c"],
    bias1: Float[Tensor, " d"],
    *,
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
) -> tuple[Float[Tensor, "d c"], Float[Tensor, " d"]]:
    """The first layer behind a norm without weight and bias: W * weight and b + W bias."""
    return weight1 * norm_weight, bias1 + torch.mv(weight1, norm_bias)
