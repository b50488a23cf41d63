"""The pooling sub-block in PyTorch's own operators, said so that a compiler and the matrix library do them well."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaformer.ops.arguments import Features, with_weights
from metaformer.ops.norm_pool.reference import NormPool
from metaformer.ops.normalise import normalise, sample_moments
from metaformer.ops.pool_mix import pool_mix


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainNormPool(NormPool):
    """x + scale * rstd * (pool(x) - x), with the one variance that is left of the norm."""

    sliced: bool = False  # pooling as shifted sums, which a compiler fuses; else one library call

    @classmethod
    def pack(cls, op: NormPool, dtype: torch.dtype, *, sliced: bool = False) -> "PlainNormPool":
        """For features in that dtype; statistics and what is multiplied with them stay in float32."""
        return cls(**with_weights(op, lambda weight: weight.to(dtype), "res_scale"), sliced=sliced)

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The sub-block."""
        scale = self.scale[None]
        if self.norm == "sample":
            moments = sample_moments(x) if moments is None else moments
            scale = scale * torch.rsqrt(moments[:, 1:] + self.eps)
        # A norm of each token does not move through the window; the others do.
        source = normalise(x, self.norm, eps=self.eps).to(x.dtype) if self.norm == "token" else x
        mixed = sliced_pool_mix(source, self.pool_size) if self.sliced else pool_mix(source, self.pool_size)
        skip = x if self.res_scale is None else x * self.res_scale[:, None, None]
        return torch.addcmul(skip, mixed, scale[:, :, None, None].to(x.dtype)), None


def sliced_pool_mix(x: Tensor, pool_size: int) -> Tensor:
    """`pool_mix` as sums of shifted slices, first down and then across."""
    height, width = x.shape[-2:]
    reach = pool_size // 2
    padded = F.pad(x, (reach, reach, reach, reach))
    rows = sum((padded[..., i : i + height, :] for i in range(1, pool_size)), start=padded[..., :height, :])
    total = sum((rows[..., j : j + width] for j in range(1, pool_size)), start=rows[..., :width])
    counts = [_tokens_in_window(side, reach, x.device) for side in (height, width)]
    count = (counts[0][:, None] * counts[1]).to(x.dtype)
    # The count times the token, not the sum over the count: a constant map gives exactly zero.
    return (total - count * x) / count


def _tokens_in_window(side: int, reach: int, device: torch.device) -> Tensor:
    place = torch.arange(side, device=device)
    return (place + reach).clamp(max=side - 1) - (place - reach).clamp(min=0) + 1
