"""The depthwise convolution in PyTorch, in the dtype of the features."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaformer.ops.arguments import Features, with_weights
from metaformer.ops.depthwise.reference import Depthwise


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainDepthwise(Depthwise):
    """The same weights, cast."""

    @classmethod
    def pack(cls, op: Depthwise, dtype: torch.dtype) -> "PlainDepthwise":
        """For features in that dtype."""
        return cls(**with_weights(op, lambda weight: weight.to(dtype)))

    def run(self, x: Tensor, moments: Tensor | None = None, residual: Tensor | None = None) -> Features:
        """The convolution."""
        reach = self.weight.shape[-1] // 2
        return F.conv2d(x, self.weight, self.bias, padding=reach, groups=x.shape[1]), None
