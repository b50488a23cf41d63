"""`torch.ops.metaformer.depthwise`: depthwise convolution as an operator, for inference."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaformer.ops.arguments import Features, as_floats, with_weights
from metaformer.ops.depthwise.reference import Depthwise, depthwise
from metaformer.ops.native.library import NativeLibrary, address
from metaformer.ops.native.operators import channels_last, no_moments, register_operator, run_operator
from metaformer.ops.native.packing import fill_up, pack_depthwise, round_up, unpack_depthwise


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeDepthwise:
    """The weights of `Depthwise` in float32, by blocks of as many channels as a vector holds."""

    weight: Tensor
    bias: Tensor
    want_moments: bool = False  # it makes none

    @classmethod
    def pack(cls, op: Depthwise, library: NativeLibrary) -> "NativeDepthwise":
        """What the C++ of this library reads."""
        named = with_weights(op, as_floats)
        return cls(weight=pack_depthwise(named["weight"], library.lanes), bias=fill_up(named["bias"], library.lanes))

    def run(self, x: Tensor, moments: Tensor | None = None, residual: Tensor | None = None) -> Features:
        """The convolution."""
        return run_operator(OPERATOR, self, x, moments, residual)

    def plain(self, x: Tensor, _moments: Tensor | None, _residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """By the definition."""
        channels = x.shape[1]
        op = Depthwise(weight=unpack_depthwise(self.weight, channels), bias=self.bias[:channels])
        return channels_last(depthwise(x, op)), no_moments(x)

    def native(
        self, library: NativeLibrary, x: Tensor, moments: Tensor | None, residual: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """In C++."""
        if self.weight.shape[3] != library.lanes:
            # Packed on another kind of machine.
            return self.plain(x, moments, residual)
        x = channels_last(x)
        batch, channels, height, width = x.shape
        padded, size = round_up(channels, library.lanes), self.weight.shape[1]
        out = torch.empty_like(x)
        library.functions.mf_depthwise(
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            out.data_ptr(),
            address(self.weight, size**2 * padded, "weight"),
            address(self.bias, padded, "bias"),
            batch,
            height,
            width,
            channels,
            size,
            torch.get_num_threads(),
        )
        return out, no_moments(x)

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """One a place of the window, for each number."""
        batch, channels, height, width = x_shape
        return batch * channels * height * width * self.weight.shape[1] ** 2


OPERATOR = register_operator("depthwise", NativeDepthwise)
