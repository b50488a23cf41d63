"""Both passes of the fused channel MLP sub-block in PyTorch: a slice of rows at a time goes through both layers.

Rows are tokens of all samples; the hidden channels of a slice stay near.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaformer.ops.arguments import with_weights
from metaformer.ops.norm_mlp.reference import ACTIVATIONS, NormMLP
from metaformer.ops.spare_buffers import SpareBuffers

# Hidden numbers of a slice: large enough for the matrix library, small enough to stay near.
SLICE = 1 << 20

# A slice, the hidden tensor behind the activation, and its gradient in front of it.
HiddenSlice = tuple[slice, Tensor, Tensor]


@dataclass(frozen=True)
class InSlices:
    """By PyTorch's own operators, with products in a dtype; all else is in that of the features."""

    products: torch.dtype

    def forward(
        self, x: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, spare: SpareBuffers | None
    ) -> tuple[Tensor, Tensor | None]:
        """The sub-block; and where there are buffers to keep it in, the hidden tensor before the activation."""
        rounded, z = rounded_to(self.products, op), torch.empty_like(x)
        rows, out = rows_of(x), rows_of(z)
        statistics = Statistics(x, moments, factor, op.eps)
        kept = None if spare is None else spare.take((len(rows), len(op.bias1)), self.products)
        for part in _slices(rows, len(op.bias1)):
            normed = statistics.normalise(rows, part, self.products)
            before = F.linear(normed, rounded.weight1, rounded.bias1)
            if kept is not None:
                kept[part] = before
            hidden = ACTIVATIONS[op.activation](before)
            branch = statistics.scaled(F.linear(hidden, rounded.weight2, rounded.bias2), part)
            torch.add(rows[part] if op.res_scale is None else rows[part] * op.res_scale, branch, out=out[part])
        return z, kept

    def backward(
        self, x: Tensor, grad: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The gradients of x and of the four layers' tensors; what `forward` did not keep is computed again."""
        statistics, rounded = Statistics(x, moments, factor, op.eps), rounded_to(self.products, op)
        rows, rows_grad = rows_of(x), rows_of(grad)
        slices = _hidden_slices(rows, rows_grad, statistics, rounded, self.products, kept)
        return sum_slices(x, grad, statistics, op, self.products, slices)


def sum_slices(
    x: Tensor,
    grad: Tensor,
    statistics: "Statistics",
    op: NormMLP,
    products: torch.dtype,
    slices: Iterable[HiddenSlice],
) -> tuple[Tensor, ...]:
    """The gradients of x and of the four layers' tensors, from the hidden tensor and its gradient in slices."""
    weight1 = op.weight1.to(products)
    grad_normed = torch.empty_like(x)
    grads1, grads2 = _Sums(op.weight1, op.bias1), _Sums(op.weight2, op.weight2[:, 0])
    rows, out, rows_grad = rows_of(x), rows_of(grad_normed), rows_of(grad)
    for part, hidden, grad_before in slices:
        grads2.add(statistics.scaled(rows_grad[part], part).to(products), hidden)
        grads1.add(grad_before, statistics.normalise(rows, part, products))
        out[part] = grad_before @ weight1
    grad_x = statistics.grad_of_input(x, grad_normed)
    grad_x += grad if op.res_scale is None else grad * op.res_scale[:, None, None].to(grad.dtype)
    sums = (grads1.weight, grads1.bias, grads2.weight, grads2.bias)
    layers = (op.weight1, op.bias1, op.weight2, op.bias2)
    return grad_x, *(total.to(layer.dtype) for total, layer in zip(sums, layers, strict=True))


def _hidden_slices(
    rows: Tensor, rows_grad: Tensor, statistics: "Statistics", op: NormMLP, products: torch.dtype, kept: Tensor | None
) -> Iterator[HiddenSlice]:
    for part in _slices(rows, len(op.bias1)):
        if kept is None:
            before = F.linear(statistics.normalise(rows, part, products), op.weight1, op.bias1)
        else:
            before = kept[part]
        # The activation and its input, joined by autograd.
        with torch.enable_grad():
            before = before.detach().requires_grad_()
            hidden = ACTIVATIONS[op.activation](before)
        grad_branch = statistics.scaled(rows_grad[part], part).to(products)
        (grad_before,) = torch.autograd.grad(hidden, before, grad_branch @ op.weight2)
        yield part, hidden, grad_before


def rounded_to(dtype: torch.dtype, op: NormMLP) -> NormMLP:
    """Both layers in the dtype of the products."""
    return NormMLP(**with_weights(op, lambda weight: weight.to(dtype), "weight1", "bias1", "weight2", "bias2"))


def rows_of(x: Tensor) -> Tensor:
    """Features as (tokens of all samples, channels): a view, where the channels lie together."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


class Statistics:
    """Mean, rstd and factor of the sample that each row belongs to."""

    def __init__(self, x: Tensor, moments: Tensor, factor: Tensor | None, eps: float) -> None:
        self.num_tokens = x.shape[2] * x.shape[3]
        # In the dtype of the moments, float32 or wider: what is subtracted and summed is so in it.
        self.mean, self.rstd = moments[:, 0], torch.rsqrt(moments[:, 1] + eps)
        self.factor = factor

    def of(self, values: Tensor, part: slice) -> Tensor:
        """One value a sample, repeated for the rows of a slice, as a column."""
        first, last = part.start // self.num_tokens, (part.stop - 1) // self.num_tokens + 1
        spread = values[first:last].repeat_interleave(self.num_tokens)
        skip = part.start - first * self.num_tokens
        return spread[skip : skip + part.stop - part.start, None]

    def normalise(self, rows: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
        """Rows of a slice without mean and spread."""
        return ((rows[part] - self.of(self.mean, part)) * self.of(self.rstd, part)).to(dtype)

    def scaled(self, rows: Tensor, part: slice) -> Tensor:
        """Rows of a slice times the factor of their sample."""
        return rows if self.factor is None else rows * self.of(self.factor, part)

    def grad_of_input(self, x: Tensor, grad_normed: Tensor) -> Tensor:
        """Through the norm, mean and rstd included: rstd * (g - mean(g) - n * mean(g * n)), means over each sample."""
        mean, rstd = (values[:, None, None, None] for values in (self.mean, self.rstd))
        normed = (x - mean) * rstd
        axes = (1, 2, 3)
        slope = (grad_normed * normed).mean(dim=axes, keepdim=True)
        level = grad_normed.mean(dim=axes, keepdim=True, dtype=mean.dtype)
        return ((grad_normed - level - normed * slope) * rstd).to(x.dtype)


class _Sums:
    """The gradients of a linear layer, summed over slices of rows in float32 or wider."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.weight, self.bias = torch.zeros_like(weight, dtype=dtype), torch.zeros_like(bias, dtype=dtype)

    def add(self, grad: Tensor, inputs: Tensor) -> None:
        if grad.dtype == self.weight.dtype:
            self.weight.addmm_(grad.T, inputs)
        else:
            self.weight += grad.T @ inputs
        self.bias += grad.sum(dim=0, dtype=self.bias.dtype)


def _slices(rows: Tensor, hidden: int) -> Iterator[slice]:
    step = max(1, SLICE // hidden)
    for first in range(0, len(rows), step):
        yield slice(first, min(first + step, len(rows)))
