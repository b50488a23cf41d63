"""The definition of the convolution with what surrounds it, in plain PyTorch."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from metaformer.ops.norm_mlp.reference import ACTIVATIONS
from metaformer.ops.normalise import normalise, sample_moments


@dataclass(frozen=True, kw_only=True, eq=False)
class NormConvolution:
    """Weights and settings; a linear layer has a 1x1 kernel."""

    weight: Tensor  # (D, C, K, K); the kernel, times the norm's weight, LayerScale and the scale of what is before it
    bias: Tensor  # (D); its bias likewise
    res_scale: Tensor | None = None  # (D); ResScale, None is 1
    post_weight: Tensor | None = None  # (D); of a layer norm over the channels of the result, None: no such norm
    post_bias: Tensor | None = None  # (D)
    stride: int = 1  # in tokens
    padding: int = 0  # zeros around the normalised features, in tokens
    activation: str = "none"  # a name in ACTIVATIONS
    act_scale: float = 1.0  # StarReLU's
    act_shift: float = 0.0
    norm: str = "none"  # a name in NORM_KINDS, for x
    eps: float = 1e-5  # of that norm
    post_eps: float = 1e-5


def norm_convolution(
    x: Float[Tensor, "b c h w"],
    op: NormConvolution,
    *,
    moments: Float[Tensor, "b 2"] | None = None,
    residual: Float[Tensor, "b d h2 w2"] | None = None,
) -> tuple[Float[Tensor, "b d h2 w2"], Float[Tensor, "b 2"]]:
    """Convolution, activation, norm and residual, and mean and variance of each sample of the result.

    y = res_scale * residual + post_norm(act_scale * activation(conv(norm(x)) + bias) + act_shift)

    Args:
        x: Features.
        op: Weights and settings.
        moments: Mean and variance of each sample of x, where they are known.
        residual: What the branch is added to.
    """
    normed = normalise(x, op.norm, eps=op.eps, moments=moments)
    y = F.conv2d(normed, op.weight.to(normed), op.bias.to(normed), stride=op.stride, padding=op.padding)
    y = op.act_scale * ACTIVATIONS[op.activation](y) + op.act_shift
    if op.post_weight is not None:
        shift = None if op.post_bias is None else op.post_bias.to(y)
        weight = op.post_weight.to(y)
        y = F.layer_norm(y.movedim(1, -1), weight.shape, weight, shift, op.post_eps).movedim(-1, 1)
    if residual is not None:
        y = y + (residual if op.res_scale is None else op.res_scale[:, None, None] * residual)
    y = y.to(x.dtype)
    return y, sample_moments(y)
