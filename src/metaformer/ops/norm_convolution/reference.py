"""The definition of the convolution with what surrounds it, in plain PyTorch."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from metaformer.ops.norm_mlp.reference import ACTIVATIONS
from metaformer.ops.normalise import normalise, sample_moments


def norm_convolution(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "d c kh kw"],
    bias: Float[Tensor, " d"],
    *,
    stride: int = 1,
    padding: int = 0,
    norm: str = "none",
    eps: float = 1e-5,
    moments: Float[Tensor, "b 2"] | None = None,
    activation: str = "none",
    act_scale: float = 1.0,
    act_shift: float = 0.0,
    post_weight: Float[Tensor, " d"] | None = None,
    post_bias: Float[Tensor, " d"] | None = None,
    post_eps: float = 1e-5,
    residual: Float[Tensor, "b d h2 w2"] | None = None,
    res_scale: Float[Tensor, " d"] | None = None,
) -> tuple[Float[Tensor, "b d h2 w2"], Float[Tensor, "b 2"]]:
    """Convolution, activation, norm and residual, and mean and variance of each sample of the result.

    y = res_scale * residual + post_norm(act_scale * activation(conv(norm(x)) + bias) + act_shift)

    Args:
        x: Features.
        weight: The kernel, times the norm's weight, the branch's LayerScale and the scale of the activation before it.
        bias: Its bias likewise.
        stride: In tokens.
        padding: Zeros around the normalised features, in tokens.
        norm: A name in NORM_KINDS, for x.
        eps: Of that norm.
        moments: Mean and variance of each sample of x, where they are known.
        activation: A name in ACTIVATIONS.
        act_scale: StarReLU's scale.
        act_shift: StarReLU's bias.
        post_weight: Weight of a layer norm over the channels of the result; None: no such norm.
        post_bias: Its bias.
        post_eps: Its epsilon.
        residual: What the branch is added to.
        res_scale: ResScale; None is 1.
    """
    normed = normalise(x, norm, eps=eps, moments=moments)
    y = F.conv2d(normed, weight.to(normed), bias.to(normed), stride=stride, padding=padding)
    y = act_scale * ACTIVATIONS[activation](y) + act_shift
    if post_weight is not None:
        shift = None if post_bias is None else post_bias.to(y)
        y = F.layer_norm(y.movedim(1, -1), post_weight.shape, post_weight.to(y), shift, post_eps).movedim(-1, 1)
    if residual is not None:
        y = y + (residual if res_scale is None else res_scale[:, None, None] * residual)
    y = y.to(x.dtype)
    return y, sample_moments(y)
