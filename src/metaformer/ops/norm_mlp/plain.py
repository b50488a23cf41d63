"""The channel MLP sub-block in PyTorch's own operators, the norm behind the first product."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaformer.ops.arguments import Features, with_weights
from metaformer.ops.norm_mlp.reference import ACTIVATIONS, NormMLP
from metaformer.ops.normalise import sample_moments


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainNormMLP(NormMLP):
    """rstd * (W1 x - mean * row sums of W1) + b1, and so on."""

    row_sums: Tensor  # of the weights as rounded: what the product multiplies the mean with

    @classmethod
    def pack(cls, op: NormMLP, dtype: torch.dtype) -> "PlainNormMLP":
        """For features in that dtype; statistics and what is multiplied with them stay in float32."""
        row_sums = op.weight1.to(dtype).to(op.weight1.dtype).sum(dim=1)
        rounded = with_weights(op, lambda weight: weight.to(dtype), "weight1", "weight2", "bias2", "res_scale")
        return cls(**rounded, row_sums=row_sums)

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The sub-block."""
        tokens = x.permute(0, 2, 3, 1)
        product = F.linear(tokens, self.weight1)
        if self.norm == "none":
            before = product + self.bias1.to(x.dtype)
        else:
            mean, rstd = _mean_and_rstd(x, self.norm, self.eps, moments)
            before = ((product.to(mean) - mean * self.row_sums) * rstd + self.bias1).to(x.dtype)
        branch = F.linear(ACTIVATIONS[self.activation](before), self.weight2, self.bias2)
        if self.skip:
            branch = branch + (tokens if self.res_scale is None else tokens * self.res_scale)
        return branch.permute(0, 3, 1, 2), None


def _mean_and_rstd(x: Tensor, norm: str, eps: float, moments: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each token (B, H, W, 1) or sample (B, 1, 1, 1), in float32 or wider."""
    if norm == "token":
        tokens = x.permute(0, 2, 3, 1).to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True, correction=0)
    else:
        moments = sample_moments(x) if moments is None else moments
        mean, variance = (moments[:, i, None, None, None] for i in (0, 1))
    return mean, torch.rsqrt(variance + eps)
