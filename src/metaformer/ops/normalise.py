"""Normalisation without weight and bias: what is left of a norm once these are folded into what follows."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# "none"; "sample": over channels and tokens together (modified layer norm); "token": over the channels of each token.
NORM_KINDS = ("none", "sample", "token")


def sample_moments(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2"]:
    """Mean and variance of each sample, over channels and tokens together; in float32 or wider."""
    # In two passes of sums, which are several times as fast as torch.var_mean, and as exact.
    wide = _wide(x)
    mean = wide.mean(dim=(1, 2, 3))
    variance = (wide - mean[:, None, None, None]).square().mean(dim=(1, 2, 3))
    return torch.stack([mean, variance], dim=1)


def normalise(
    x: Float[Tensor, "b c h w"], kind: str, *, eps: float, moments: Float[Tensor, "b 2"] | None = None
) -> Float[Tensor, "b c h w"]:
    """(x - mean) / sqrt(variance + eps), in float32 or wider.

    Args:
        x: Features.
        kind: A name in NORM_KINDS; says over what mean and variance are taken.
        eps: Added to the variance.
        moments: Mean and variance of the samples, where they are known; else they are computed.
    """
    wide = _wide(x)
    if kind == "none":
        return wide
    if kind == "token":
        variance, mean = torch.var_mean(wide, dim=1, keepdim=True, correction=0)
    else:
        moments = sample_moments(x) if moments is None else moments
        mean, variance = (moments[:, i, None, None, None] for i in (0, 1))
    return (wide - mean) * torch.rsqrt(variance + eps)


def norm_macs(kind: str, x_shape: tuple[int, ...]) -> int:
    """Multiply-adds of a norm, as they are counted where it stands alone: 5 a number over samples, else none."""
    return 5 * math.prod(x_shape) if kind == "sample" else 0


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
