"""The convolution with what surrounds it in PyTorch's own operators: a 1x1 kernel is a linear layer."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from metaformer.ops.arguments import Features, with_weights
from metaformer.ops.norm_convolution.reference import NormConvolution
from metaformer.ops.norm_mlp.reference import ACTIVATIONS
from metaformer.ops.normalise import normalise


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainNormConvolution(NormConvolution):
    """The same weights in the dtype of the features; that of a linear layer as a matrix."""

    is_linear: bool

    @classmethod
    def pack(cls, op: NormConvolution, dtype: torch.dtype) -> "PlainNormConvolution":
        """For features in that dtype."""
        is_linear = op.weight.shape[-2:] == (1, 1) and op.padding == 0 and op.stride == 1
        weight = op.weight.flatten(1) if is_linear else op.weight.contiguous(memory_format=torch.channels_last)
        laid_out = replace(op, weight=weight)
        return cls(**with_weights(laid_out, lambda tensor: tensor.to(dtype)), is_linear=is_linear)

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The convolution."""
        x = x if self.norm == "none" else normalise(x, self.norm, eps=self.eps, moments=moments).to(x.dtype)
        if self.is_linear:
            y = F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias)
        else:
            y = F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding).permute(0, 2, 3, 1)
        y = ACTIVATIONS[self.activation](y)
        if self.act_scale != 1 or self.act_shift != 0:
            y = self.act_scale * y + self.act_shift
        if self.post_weight is not None:
            y = F.layer_norm(y, self.post_weight.shape, self.post_weight, self.post_bias, self.post_eps)
        y = y.permute(0, 3, 1, 2)
        if residual is not None:
            y = y + (residual if self.res_scale is None else residual * self.res_scale[:, None, None])
        return y, None
