"""Both passes of the fused channel MLP sub-block on a GPU, for training: our kernels, and the matrix library."""

from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from metaformer.ops.norm_mlp.training_native import Layers
from metaformer.ops.triton_kernels import triton_kernels

# Hidden numbers that are held at once on the way back.
SLICE = 1 << 26


def kernels_for(x: Tensor, dtype: torch.dtype) -> ModuleType | None:
    """The Triton kernels, for what they compute: products in float32 and less on a GPU, not too many channels."""
    if not x.is_cuda or dtype == torch.float64:
        return None
    kernels = triton_kernels("norm_mlp", x.device)
    return kernels if kernels is not None and x.shape[1] <= kernels.MOST_CHANNELS else None


def forward(
    kernels: ModuleType,
    x: Tensor,
    moments: Tensor,
    layers: Layers,
    res_scale: Tensor | None,
    factor: Tensor | None,
    activation: str,
    eps: float,
) -> Tensor:
    """The sub-block; products are made in the dtype of the layers."""
    batch, channels, height, width = x.shape
    weight1, bias1, weight2, bias2 = (tensor.contiguous() for tensor in layers)
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    z, _ = kernels.forward(
        rows,
        moments,
        tokens=height * width,
        weight1=weight1,
        bias1=bias1,
        weight2=weight2,
        bias2=bias2,
        activation=activation,
        eps=eps,
        res_scale=res_scale,
        factor=factor,
        launch=kernels.fastest_launch(rows, len(bias1), weight1.dtype),
    )
    made: Tensor = z.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return made


def hidden_slices(
    kernels: ModuleType,
    rows: Tensor,
    grad: Tensor,
    moments: Tensor,
    layers: Layers,
    factor: Tensor | None,
    activation: str,
    eps: float,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The hidden tensor behind the activation and its gradient in front of it, some samples' rows at a time."""
    weight1, bias1, weight2 = (tensor.contiguous() for tensor in layers[:3])
    tokens = len(rows) // len(moments)
    launch = kernels.fastest_launch(rows, len(bias1), weight1.dtype)
    samples = max(1, SLICE // (tokens * len(bias1)))
    for first in range(0, len(moments), samples):
        last = min(first + samples, len(moments))
        part = slice(first * tokens, last * tokens)
        after, before_grad = kernels.hidden_grads(
            rows[part],
            grad[part],
            moments[first:last],
            tokens=tokens,
            weight1=weight1,
            bias1=bias1,
            weight2=weight2,
            activation=activation,
            eps=eps,
            factor=None if factor is None else factor[first:last],
            launch=launch,
        )
        yield part, after, before_grad
