"""Both passes of the fused channel MLP sub-block on a GPU, for training: our kernels, and the matrix library."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from metaformer.ops.arguments import with_weights
from metaformer.ops.norm_mlp.reference import NormMLP
from metaformer.ops.norm_mlp.training_plain import HiddenSlice, Statistics, rounded_to, rows_of, sum_slices
from metaformer.ops.spare_buffers import SpareBuffers
from metaformer.ops.triton_kernels import triton_kernels

# Hidden numbers that are held at once on the way back.
SLICE = 1 << 26


@dataclass(frozen=True)
class InTriton:
    """By the kernels of `triton.py`, with products in a dtype."""

    kernels: ModuleType
    products: torch.dtype

    def forward(
        self, x: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, spare: SpareBuffers | None
    ) -> tuple[Tensor, Tensor | None]:
        """The sub-block; nothing hidden is kept."""
        batch, channels, height, width = x.shape
        rounded = _contiguous(self.products, op)
        options = {"tokens": height * width, "factor": factor, "launch": self.kernels.launch_for(channels)}
        z, _ = self.kernels.forward(rows_of(x), moments, rounded, **options)
        return z.view(batch, height, width, channels).permute(0, 3, 1, 2), None

    def backward(
        self, x: Tensor, grad: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The gradients of x and of the four layers' tensors."""
        statistics = Statistics(x, moments, factor, op.eps)
        slices = self._hidden_slices(rows_of(x), rows_of(grad), moments, _contiguous(self.products, op), factor)
        return sum_slices(x, grad, statistics, op, self.products, slices)

    def _hidden_slices(
        self, rows: Tensor, grad: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None
    ) -> Iterator[HiddenSlice]:
        """Some samples' rows at a time."""
        tokens = len(rows) // len(moments)
        options = {"tokens": tokens, "launch": self.kernels.launch_for(rows.shape[1])}
        samples = max(1, SLICE // (tokens * len(op.bias1)))
        for first in range(0, len(moments), samples):
            some = slice(first, min(first + samples, len(moments)))
            part = slice(some.start * tokens, some.stop * tokens)
            own = None if factor is None else factor[some]
            yield part, *self.kernels.hidden_grads(rows[part], grad[part], moments[some], op, factor=own, **options)


def on_gpu(device: torch.device, products: torch.dtype, channels: int) -> InTriton | None:
    """The kernels, for what they compute: products in float32 and less, not too many channels."""
    kernels = None if products == torch.float64 else triton_kernels("norm_mlp", device)
    return None if kernels is None or channels > kernels.MOST_CHANNELS else InTriton(kernels, products)


def _contiguous(dtype: torch.dtype, op: NormMLP) -> NormMLP:
    return NormMLP(**with_weights(rounded_to(dtype, op), Tensor.contiguous))
