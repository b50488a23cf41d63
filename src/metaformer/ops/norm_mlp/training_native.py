"""Both passes of the fused channel MLP sub-block in C++, for training in float32 on the CPU."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaformer.ops.native.library import ACTIVATION_KINDS, NativeLibrary, address
from metaformer.ops.native.operators import channels_last
from metaformer.ops.native.packing import fill_up, pack_blocks, pack_panels, round_up
from metaformer.ops.norm_mlp.native import NativeNormMLP
from metaformer.ops.norm_mlp.reference import NormMLP
from metaformer.ops.spare_buffers import SpareBuffers


@dataclass(frozen=True)
class InCpp:
    """By the C++ of a library."""

    library: NativeLibrary

    def forward(
        self, x: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, spare: SpareBuffers | None
    ) -> tuple[Tensor, Tensor | None]:
        """The sub-block; and where there are buffers to keep it in, the hidden tensor before the activation."""
        columns, rows = self.library.tile_columns, x.numel() // x.shape[1]
        kept = None if spare is None else spare.take((-(-len(op.bias1) // columns), rows, columns), torch.float32)
        # Stochastic depth scales the branch alone, which the operator then gives, without the residual.
        packed = NativeNormMLP.pack(replace(op, skip=factor is None), self.library)
        if kept is None:
            z, _ = packed.run(x, moments)
        else:
            z, _ = packed.native(self.library, x, moments, None, hidden_out=kept)
        if factor is None:
            return z, kept
        residual = x if op.res_scale is None else x * op.res_scale[:, None, None]
        return torch.addcmul(residual, z, factor[:, None, None, None]), kept

    def backward(
        self, x: Tensor, grad: Tensor, moments: Tensor, op: NormMLP, factor: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The gradients of x and of the four layers' tensors; what `forward` did not keep is computed again."""
        x, grad, columns = channels_last(x), channels_last(grad), self.library.tile_columns
        (batch, channels, height, width), hidden = x.shape, len(op.bias1)
        padded = round_up(channels, columns)
        fc1, back2 = pack_panels(op.weight1, columns), pack_panels(op.weight2.T, columns)
        back1, bias = pack_blocks(op.weight1.T, columns), fill_up(op.bias1, columns)
        grad_x = torch.empty_like(x)
        first, second = torch.empty(hidden, padded), torch.empty(hidden, padded)
        grad_bias1, grad_bias2 = torch.empty(round_up(hidden, columns)), torch.empty(padded)
        self.library.functions.mf_norm_mlp_backward(
            x.data_ptr(),
            grad.data_ptr(),
            address(moments, 2 * batch, "moments"),
            op.eps,
            address(factor, batch, "factor"),
            address(op.res_scale, channels, "res_scale"),
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
            ACTIVATION_KINDS[op.activation],
            torch.get_num_threads(),
        )
        return grad_x, first[:, :channels], grad_bias1[:hidden], second[:, :channels].T, grad_bias2[:channels]
