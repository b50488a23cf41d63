"""Both passes of the fused channel MLP sub-block in C++, for training in float32 on the CPU."""

import torch
from torch import Tensor

from metaformer.ops.native.library import ACTIVATION_KINDS, NativeLibrary, address
from metaformer.ops.native.operators import channels_last
from metaformer.ops.native.packing import fill_up, pack_blocks, pack_panels, round_up
from metaformer.ops.norm_mlp.operator import native_norm_mlp
from metaformer.ops.spare_buffers import SpareBuffers

Layers = tuple[Tensor, Tensor, Tensor, Tensor]  # weight1, bias1, weight2, bias2


def forward(
    library: NativeLibrary,
    x: Tensor,
    moments: Tensor,
    layers: Layers,
    res_scale: Tensor | None,
    factor: Tensor | None,
    activation: str,
    eps: float,
    spare: SpareBuffers | None,
) -> tuple[Tensor, Tensor | None]:
    """The sub-block; and where there are buffers to keep it in, the hidden tensor before the activation."""
    weight1, bias1, weight2, bias2 = layers
    columns, rows = library.tile_columns, x.numel() // x.shape[1]
    kept = None if spare is None else spare.take((-(-len(bias1) // columns), rows, columns), torch.float32)
    packed = (pack_panels(weight1, columns), fill_up(bias1, columns), pack_blocks(weight2, columns))
    # Stochastic depth scales the branch alone, which the operator then gives, without the residual.
    z, _ = native_norm_mlp(
        library,
        x,
        moments,
        *packed,
        fill_up(bias2, columns),
        res_scale,
        hidden=len(bias1),
        activation=activation,
        norm="sample",
        eps=eps,
        skip=factor is None,
        want_moments=False,
        hidden_out=kept,
    )
    if factor is None:
        return z, kept
    residual = x if res_scale is None else x * res_scale[:, None, None]
    return torch.addcmul(residual, z, factor[:, None, None, None]), kept


def backward(
    library: NativeLibrary,
    x: Tensor,
    grad: Tensor,
    moments: Tensor,
    layers: Layers,
    res_scale: Tensor | None,
    factor: Tensor | None,
    activation: str,
    eps: float,
    kept: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x and of the four layers' tensors; what `forward` did not keep is computed again."""
    weight1, bias1, weight2, _ = layers
    x, grad, columns = channels_last(x), channels_last(grad), library.tile_columns
    (batch, channels, height, width), hidden = x.shape, len(bias1)
    padded = round_up(channels, columns)
    fc1, back2, back1 = pack_panels(weight1, columns), pack_panels(weight2.T, columns), pack_blocks(weight1.T, columns)
    bias = fill_up(bias1, columns)
    grad_x = torch.empty_like(x)
    first, second = torch.empty(hidden, padded), torch.empty(hidden, padded)
    grad_bias1, grad_bias2 = torch.empty(round_up(hidden, columns)), torch.empty(padded)
    library.functions.mf_norm_mlp_backward(
        x.data_ptr(),
        grad.data_ptr(),
        address(moments, 2 * batch, "moments"),
        eps,
        address(factor, batch, "factor"),
        address(res_scale, channels, "res_scale"),
        address(fc1, len(grad_bias1) * channels, "weight1"),
        address(bias, len(grad_bias1), "bias1"),
        address(back2, len(grad_bias1) * channels, "weight2"),
        address(kept, len(grad_bias1) * batch * height * width, "hidden"),
        address(back1, back1.numel(), "weight1"),
        grad_x.data_ptr(),
        first.data_ptr(),
        second.data_ptr(),
        grad_bias1.data_ptr(),
        grad_bias2.data_ptr(),
        batch,
        height * width,
        channels,
        hidden,
        back1.shape[2],
        ACTIVATION_KINDS[activation],
        torch.get_num_threads(),
    )
    return grad_x, first[:, :channels], grad_bias1[:hidden], second[:, :channels].T, grad_bias2[:channels]
