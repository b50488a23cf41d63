"""The fused channel MLP sub-block for training: keeps its input, two numbers a sample, and at most one hidden tensor.

In C++ or Triton where that fits, else in PyTorch: there a slice of rows (tokens) at a time goes through both layers, so
that its hidden channels stay near.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from metaformer.ops.native.library import NativeLibrary, native_library
from metaformer.ops.norm_mlp import training_native as native
from metaformer.ops.norm_mlp import training_triton as on_gpu
from metaformer.ops.norm_mlp.reference import ACTIVATIONS
from metaformer.ops.norm_mlp.training_native import Layers
from metaformer.ops.normalise import sample_moments
from metaformer.ops.spare_buffers import SpareBuffers

# Hidden numbers of a slice: large enough for the matrix library, small enough to stay near.
SLICE = 1 << 20


# A compiler goes around it: kernels of our own are no Python for it to read.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def trained_norm_mlp(
    x: Float[Tensor, "b c h w"],
    *,
    weight1: Float[Tensor, "d c"],
    bias1: Float[Tensor, " d"],
    weight2: Float[Tensor, "c d"],
    bias2: Float[Tensor, " c"],
    activation: str,
    eps: float,
    moments: Float[Tensor, "b 2"] | None = None,
    res_scale: Float[Tensor, " c"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
    spare: SpareBuffers | None = None,
) -> Float[Tensor, "b c h w"]:
    """`norm_mlp` with norm "sample" and a backward pass of its own.

    Matrix products are made in autocast's dtype where it is on, everything else in that of x.

    Args:
        x: Features.
        weight1: First layer, times the norm's weight.
        bias1: Its bias, with the norm's bias sent through the layer.
        weight2: Second layer, times LayerScale and the activation's scale.
        bias2: Its bias likewise.
        activation: A name in ACTIVATIONS.
        eps: Of the norm, added to the variance.
        moments: Mean and variance of each sample of x, where they are known; that they depend on x is known here.
        res_scale: ResScale; None is 1.
        factor: Of the branch, one a sample; None is 1.
        spare: Where the hidden tensor, as it is before the activation, is kept for the backward pass on a CPU. None: it
            is computed again, as it always is on a GPU and by the second backward pass of a graph.
    """
    moments = (sample_moments(x.detach()) if moments is None else moments).detach()
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    keeps = torch.is_grad_enabled() and kind == "cpu"
    options = _Options(activation=activation, eps=eps, dtype=dtype, spare=spare if keeps else None)
    # Inside, dtypes are chosen one by one.
    with torch.autocast(kind, enabled=False):
        z: Tensor = _NormMLP.apply(x, moments, weight1, bias1, weight2, bias2, res_scale, factor, options)
    return z


@dataclass(frozen=True, kw_only=True, eq=False)
class _Options:
    activation: str
    eps: float
    dtype: torch.dtype  # of the matrix products
    spare: SpareBuffers | None  # None: no hidden tensor is kept


class _NormMLP(torch.autograd.Function):
    """z = res_scale * x + factor * (W2 activation(W1 n + b1) + b2), n = (x - mean) * rstd of each sample."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        moments: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        res_scale: Tensor | None,
        factor: Tensor | None,
        options: _Options,
    ) -> Tensor:
        if not any(ctx.needs_input_grad):
            # Frozen, as all but the head can be: nobody will read it.
            options = replace(options, spare=None)
        x = x.contiguous(memory_format=torch.channels_last)
        layers = (weight1, bias1, weight2, bias2)
        ctx.save_for_backward(x, moments, *layers, res_scale, factor)
        ctx.options, ctx.kept = options, None
        settings = (res_scale, factor, options.activation, options.eps)
        kernels = on_gpu.kernels_for(x, options.dtype)
        if kernels is not None:
            return on_gpu.forward(kernels, x, moments, _in(options.dtype, layers), *settings)
        library = _library(x, options)
        if library is not None:
            z, ctx.kept = native.forward(library, x, moments, layers, *settings, options.spare)
        else:
            z, ctx.kept = _plain_forward(x, moments, layers, res_scale, factor, options)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, moments, *layers, res_scale, factor = ctx.saved_tensors
        options: _Options = ctx.options
        # Once: it goes back to where it came from.
        kept, ctx.kept = ctx.kept, None
        grad = grad.contiguous(memory_format=torch.channels_last)
        library = _library(x, options)
        if library is None:
            grads = _sliced_backward(x, grad, moments, tuple(layers), res_scale, factor, options, kept)
        else:
            settings = (res_scale, factor, options.activation, options.eps)
            grads = native.backward(library, x, grad, moments, tuple(layers), *settings, kept)
        if kept is not None and options.spare is not None:
            options.spare.give_back(kept)
        grad_res = None if res_scale is None else (grad * x).sum(dim=(0, 2, 3)).to(res_scale.dtype)
        return grads[0], None, *grads[1:], grad_res, None, None


def _library(x: Tensor, options: _Options) -> NativeLibrary | None:
    """The C++ operators, for what they compute: float32 on the CPU."""
    fits = x.device.type == "cpu" and x.dtype == options.dtype == torch.float32
    return native_library() if fits else None


def _plain_forward(
    x: Tensor, moments: Tensor, layers: Layers, res_scale: Tensor | None, factor: Tensor | None, options: _Options
) -> tuple[Tensor, Tensor | None]:
    first, shift1, second, shift2 = _in(options.dtype, layers)
    z = torch.empty_like(x)
    rows, out = _rows(x), _rows(z)
    statistics = _Statistics(x, moments, factor, options.eps)
    kept = None if options.spare is None else options.spare.take((len(rows), len(shift1)), options.dtype)
    for part in _slices(rows, len(shift1)):
        before = F.linear(statistics.normalise(rows, part, options.dtype), first, shift1)
        if kept is not None:
            kept[part] = before
        branch = statistics.scaled(F.linear(ACTIVATIONS[options.activation](before), second, shift2), part)
        torch.add(rows[part] if res_scale is None else rows[part] * res_scale, branch, out=out[part])
    return z, kept


def _sliced_backward(
    x: Tensor,
    grad: Tensor,
    moments: Tensor,
    layers: Layers,
    res_scale: Tensor | None,
    factor: Tensor | None,
    options: _Options,
    kept: Tensor | None,
) -> tuple[Tensor, ...]:
    weight1, bias1, weight2, _ = layers
    rounded = _in(options.dtype, layers)
    statistics = _Statistics(x, moments, factor, options.eps)
    grad_normed = torch.empty_like(x)
    grads1, grads2 = _Sums(weight1, bias1), _Sums(weight2, weight2[:, 0])
    rows, out, rows_grad = _rows(x), _rows(grad_normed), _rows(grad)
    kernels = on_gpu.kernels_for(x, options.dtype)
    if kernels is None:
        hidden_slices = _hidden_slices(rows, rows_grad, statistics, rounded, options, kept)
    else:
        settings = (factor, options.activation, options.eps)
        slices = on_gpu.hidden_slices(kernels, rows, rows_grad, moments, rounded, *settings)
        hidden_slices = (
            (part, statistics.normalise(rows, part, options.dtype), hidden, grad_before)
            for part, hidden, grad_before in slices
        )
    for part, normed, hidden, grad_before in hidden_slices:
        grads2.add(statistics.scaled(rows_grad[part], part).to(options.dtype), hidden)
        grads1.add(grad_before, normed)
        out[part] = grad_before @ rounded[0]
    grad_x = statistics.grad_of_input(x, grad_normed)
    grad_x += grad if res_scale is None else grad * res_scale[:, None, None].to(grad.dtype)
    sums = (grads1.weight, grads1.bias, grads2.weight, grads2.bias)
    return grad_x, *(total.to(layer.dtype) for total, layer in zip(sums, layers, strict=True))


def _hidden_slices(
    rows: Tensor,
    rows_grad: Tensor,
    statistics: "_Statistics",
    layers: Layers,
    options: _Options,
    kept: Tensor | None,
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """The normalised rows, the hidden tensor behind the activation, its gradient in front of it; by slices of rows."""
    first, shift, second, _ = layers
    for part in _slices(rows, len(shift)):
        normed = statistics.normalise(rows, part, options.dtype)
        hidden, before = _activated(F.linear(normed, first, shift) if kept is None else kept[part], options)
        grad_branch = statistics.scaled(rows_grad[part], part).to(options.dtype)
        (grad_before,) = torch.autograd.grad(hidden, before, grad_branch @ second)
        yield part, normed, hidden, grad_before


def _in(dtype: torch.dtype, layers: Layers) -> Layers:
    weight1, bias1, weight2, bias2 = layers
    return weight1.to(dtype), bias1.to(dtype), weight2.to(dtype), bias2.to(dtype)


class _Statistics:
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
        return ((rows[part] - self.of(self.mean, part)) * self.of(self.rstd, part)).to(dtype)

    def scaled(self, rows: Tensor, part: slice) -> Tensor:
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


def _activated(before: Tensor, options: _Options) -> tuple[Tensor, Tensor]:
    """The activation and its input, joined by autograd."""
    with torch.enable_grad():
        before = before.detach().requires_grad_()
        return ACTIVATIONS[options.activation](before), before


def _rows(x: Tensor) -> Tensor:
    """Features with the channels together, as (tokens of all samples, channels): a view."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _slices(rows: Tensor, hidden: int) -> Iterator[slice]:
    step = max(1, SLICE // hidden)
    for first in range(0, len(rows), step):
        yield slice(first, min(first + step, len(rows)))
