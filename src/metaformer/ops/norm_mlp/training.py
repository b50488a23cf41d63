"""The fused channel MLP sub-block for training: keeps its input, two numbers a sample, and at most one hidden tensor.

How it is computed is chosen once: in C++ (`training_native.py`), in Triton (`training_triton.py`), or in PyTorch
(`training_plain.py`).
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from metaformer.ops.arguments import settings_of
from metaformer.ops.native.library import native_library
from metaformer.ops.norm_mlp.reference import NormMLP
from metaformer.ops.norm_mlp.training_native import InCpp
from metaformer.ops.norm_mlp.training_plain import InSlices
from metaformer.ops.norm_mlp.training_triton import on_gpu
from metaformer.ops.normalise import sample_moments
from metaformer.ops.spare_buffers import SpareBuffers

LAYERS = ("weight1", "bias1", "weight2", "bias2")


@runtime_checkable
class TrainedMLP(Protocol):
    """Both passes of the sub-block; features and gradients have the channels together in memory."""

    def forward(
        self, x: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, spare: SpareBuffers | None
    ) -> tuple[Tensor, Tensor | None]:
        """The sub-block; and the hidden tensor before the activation, where there are buffers to keep it in."""

    def backward(
        self, x: Tensor, grad: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The gradients of x and of LAYERS; what `forward` did not keep is computed again."""


def choose_trained_mlp(*, device: torch.device, dtype: torch.dtype, products: torch.dtype, channels: int) -> TrainedMLP:
    """The fastest way that works here.

    Args:
        device: Of the features.
        dtype: Of the features.
        products: In which matrices are multiplied; that of autocast, where it is on.
        channels: Of the features.
    """
    if device.type == "cuda" and (made := on_gpu(device, products, channels)) is not None:
        return made
    if device.type == "cpu" and dtype == products == torch.float32 and (library := native_library()) is not None:
        return InCpp(library)
    return InSlices(products)


# A compiler goes around it: kernels of our own are no Python for it to read.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def trained_norm_mlp(
    x: Float[Tensor, "b c h w"],
    op: NormMLP,
    way: TrainedMLP,
    *,
    moments: Float[Tensor, "b 2"] | None = None,
    factor: Float[Tensor, " b"] | None = None,
    spare: SpareBuffers | None = None,
) -> Float[Tensor, "b c h w"]:
    """`norm_mlp` with norm "sample", the residual, and a backward pass of its own.

    Args:
        x: Features.
        op: Weights and settings.
        way: From `choose_trained_mlp`.
        moments: Mean and variance of each sample of x, where they are known; that they depend on x is known here.
        factor: Of the branch, one a sample; None is 1.
        spare: Where the hidden tensor, as it is before the activation, is kept for the backward pass on a CPU. None: it
            is computed again, as it always is on a GPU and by the second backward pass of a graph.
    """
    moments = (sample_moments(x.detach()) if moments is None else moments).detach()
    layers = (getattr(op, name) for name in LAYERS)
    keeps = torch.is_grad_enabled() and x.device.type == "cpu"
    # Inside, dtypes are chosen one by one.
    with torch.autocast(x.device.type, enabled=False):
        z: Tensor = _NormMLP.apply(x, moments, *layers, op.res_scale, factor, op, way, spare if keeps else None)
    return z


class _NormMLP(torch.autograd.Function):
    """z = res_scale * x + factor * (W2 activation(W1 n + b1) + b2), n = (x - mean) * rstd of each sample."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, moments: Tensor, *rest: Any) -> Tensor:
        *tensors, op, way, spare = rest
        if not any(ctx.needs_input_grad):
            # Frozen, as all but the head can be: nobody will read it.
            spare = None
        x = x.contiguous(memory_format=torch.channels_last)
        z, kept = way.forward(x, moments, op, tensors[-1], spare)
        # Saved by autograd: what checkpoints a block lets go of it then, as of everything else. As a tensor of its own:
        # once it has been used, others may write into this memory.
        ctx.save_for_backward(x, moments, None if kept is None else kept.data, *tensors)
        ctx.settings, ctx.way, ctx.spare = settings_of(op), way, spare
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, moments, kept, *layers, res_scale, factor = ctx.saved_tensors
        op = NormMLP(**dict(zip(LAYERS, layers, strict=True)), res_scale=res_scale, **ctx.settings)
        # Once: it goes back to where it came from, and somebody else writes into it.
        spare, ctx.spare = ctx.spare, None
        kept = None if spare is None else kept
        grads = ctx.way.backward(x, grad.contiguous(memory_format=torch.channels_last), moments, op, factor, kept)
        if kept is not None:
            spare.give_back(kept.data)
        grad_res = None if res_scale is None else (grad * x).sum(dim=(0, 2, 3)).to(res_scale.dtype)
        return grads[0], None, *grads[1:], grad_res, None, None, None, None
