"""`torch.ops.metaformer.norm_convolution`: a convolution with what surrounds it as an operator, for inference."""

import ctypes
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from metaformer.core.errors import ShapeError
from metaformer.ops.arguments import Features, as_floats, with_weights
from metaformer.ops.native.library import ACTIVATION_KINDS, NORM_KINDS, NativeLibrary, address, moments_address
from metaformer.ops.native.operators import (
    channels_last,
    empty_moments,
    no_moments,
    register_operator,
    run_operator,
)
from metaformer.ops.native.packing import fill_up, pack_panels, round_up, unpack_panels
from metaformer.ops.norm_convolution.reference import NormConvolution, norm_convolution
from metaformer.ops.normalise import norm_macs


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeNormConvolution:
    """The weights of `NormConvolution` in float32, the kernel as a packed matrix with a window a row."""

    panels: Tensor  # (P, K, T); of (out channels, kernel rows * kernel columns * channels)
    bias: Tensor
    res_scale: Tensor | None
    post_weight: Tensor | None
    post_bias: Tensor | None
    out_channels: int
    kernel_size: int
    stride: int
    padding: int
    activation: str
    act_scale: float
    act_shift: float
    norm: str
    eps: float
    post_eps: float
    want_moments: bool

    @classmethod
    def pack(
        cls, op: NormConvolution, library: NativeLibrary, *, want_moments: bool = False
    ) -> "NativeNormConvolution":
        """What the C++ of this library reads."""
        columns, named = library.tile_columns, with_weights(op, as_floats)
        weight = named.pop("weight")
        return cls(
            panels=pack_panels(weight.permute(0, 2, 3, 1).flatten(1), columns),
            **(named | {"bias": fill_up(named["bias"], columns)}),
            out_channels=weight.shape[0],
            kernel_size=weight.shape[2],
            want_moments=want_moments,
        )

    def unpacked(self) -> NormConvolution:
        """What `pack` was given."""
        windows = unpack_panels(self.panels, self.out_channels)
        weight = windows.unflatten(1, (self.kernel_size, self.kernel_size, -1)).permute(0, 3, 1, 2)
        own = {"weight": weight, "bias": self.bias[: self.out_channels]}
        same = (field.name for field in fields(NormConvolution) if field.name not in own)
        return NormConvolution(**own, **{name: getattr(self, name) for name in same})

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The convolution."""
        return run_operator(OPERATOR, self, x, moments, residual)

    def plain(self, x: Tensor, moments: Tensor | None, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """By the definition."""
        y, y_moments = norm_convolution(x, self.unpacked(), moments=moments, residual=residual)
        return channels_last(y), y_moments if self.want_moments else no_moments(x)

    def native(
        self, library: NativeLibrary, x: Tensor, moments: Tensor | None, residual: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """In C++."""
        if self.panels.shape[2] != library.tile_columns:
            # Packed on another kind of machine.
            return self.plain(x, moments, residual)
        x = channels_last(x)
        padded_out = round_up(self.out_channels, library.tile_columns)
        out = torch.empty(self._out_shape(tuple(x.shape)), dtype=x.dtype, memory_format=torch.channels_last)
        if residual is not None:
            if residual.shape != out.shape or residual.dtype != x.dtype:
                raise ShapeError(
                    f"the residual must be like the result, {tuple(out.shape)}; got {tuple(residual.shape)}."
                )
            residual = channels_last(residual)
        out_moments = empty_moments(x, self.want_moments)
        library.functions.mf_convolution(
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            out.data_ptr(),
            out_moments.data_ptr() if self.want_moments else None,
            None if residual is None else residual.data_ptr(),
            address(self.res_scale, self.out_channels, "res_scale"),
            NORM_KINDS[self.norm],
            moments_address(moments, self.norm, x.shape[0]),
            self.eps,
            address(self.panels, padded_out * self.kernel_size**2 * x.shape[1], "panels"),
            address(self.bias, padded_out, "bias"),
            address(self.post_weight, self.out_channels, "post_weight"),
            address(self.post_bias, self.out_channels, "post_bias"),
            self.post_eps,
            (ctypes.c_long * 4)(*x.shape),
            (ctypes.c_long * 5)(self.kernel_size, self.kernel_size, self.stride, self.padding, self.out_channels),
            ACTIVATION_KINDS[self.activation],
            self.act_scale,
            self.act_shift,
            torch.get_num_threads(),
        )
        return out, out_moments

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """Of the norm and the convolution."""
        batch, out, height, width = self._out_shape(x_shape)
        return norm_macs(self.norm, x_shape) + batch * out * height * width * x_shape[1] * self.kernel_size**2

    def _out_shape(self, x_shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        batch, _, *grid = x_shape
        height, width = ((side + 2 * self.padding - self.kernel_size) // self.stride + 1 for side in grid)
        if min(height, width) < 1:
            raise ShapeError(
                f"a kernel of {self.kernel_size} with padding {self.padding} does not fit into {grid[0]}x{grid[1]} "
                "tokens; the image is too small for this model."
            )
        return batch, self.out_channels, height, width


OPERATOR = register_operator("norm_convolution", NativeNormConvolution)
