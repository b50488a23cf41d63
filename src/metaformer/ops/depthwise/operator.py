"""`torch.ops.metaformer.depthwise`: depthwise convolution as an operator, for inference."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metaformer.ops.native.library import NativeLibrary, address
from metaformer.ops.native.operators import channels_last, register_operator
from metaformer.ops.native.packing import round_up, unpack_depthwise


def _plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    channels, size = x.shape[1], weight.shape[1]
    wide = x if x.dtype == torch.float64 else x.float()
    kernel = unpack_depthwise(weight, channels).to(wide)
    y = F.conv2d(wide, kernel, bias[:channels].to(wide), padding=size // 2, groups=channels)
    return channels_last(y.to(x.dtype))


def _native(library: NativeLibrary, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x = channels_last(x)
    batch, channels, height, width = x.shape
    padded = round_up(channels, library.lanes)
    if weight.shape[3] != library.lanes:
        # Packed on another kind of machine.
        return _plain(x, weight, bias)
    out = torch.empty_like(x)
    library.functions.mf_depthwise(
        x.dtype == torch.bfloat16,
        x.data_ptr(),
        out.data_ptr(),
        address(weight, weight.shape[1] ** 2 * padded, "weight"),
        address(bias, padded, "bias"),
        batch,
        height,
        width,
        channels,
        weight.shape[1],
        torch.get_num_threads(),
    )
    return out


# The weight packed by ops/native/packing.py; the bias filled up to whole vectors.
depthwise = register_operator("depthwise(Tensor x, Tensor weight, Tensor bias) -> Tensor", plain=_plain, native=_native)
