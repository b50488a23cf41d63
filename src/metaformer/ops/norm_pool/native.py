"""`torch.ops.metaformer.norm_pool`: the fused pooling sub-block as an operator, for inference."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaformer.ops.arguments import Features, as_floats, with_weights
from metaformer.ops.native.library import NORM_KINDS, NativeLibrary, address, moments_address
from metaformer.ops.native.operators import (
    channels_last,
    empty_moments,
    no_moments,
    register_operator,
    run_operator,
)
from metaformer.ops.norm_pool.reference import NormPool, norm_pool
from metaformer.ops.normalise import norm_macs


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeNormPool(NormPool):
    """The same weights, in float32."""

    want_moments: bool = False

    @classmethod
    def pack(cls, op: NormPool, *, want_moments: bool = False) -> "NativeNormPool":
        """What the C++ reads."""
        return cls(**with_weights(op, as_floats), want_moments=want_moments)

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The sub-block."""
        return run_operator(OPERATOR, self, x, moments, residual)

    def plain(self, x: Tensor, moments: Tensor | None, _residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """By the definition."""
        y, y_moments = norm_pool(x, self, moments=moments)
        return channels_last(y), y_moments if self.want_moments else no_moments(x)

    def native(
        self, library: NativeLibrary, x: Tensor, moments: Tensor | None, _residual: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """In C++."""
        x = channels_last(x)
        batch, channels, height, width = x.shape
        out, out_moments = torch.empty_like(x), empty_moments(x, self.want_moments)
        library.functions.mf_norm_pool(
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            out.data_ptr(),
            out_moments.data_ptr() if self.want_moments else None,
            address(self.res_scale, channels, "res_scale"),
            NORM_KINDS[self.norm],
            moments_address(moments, self.norm, batch),
            self.eps,
            address(self.scale, channels, "scale"),
            batch,
            height,
            width,
            channels,
            self.pool_size,
            torch.get_num_threads(),
        )
        return out, out_moments

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """Of the norm; pooling is not counted."""
        return norm_macs(self.norm, x_shape)


OPERATOR = register_operator("norm_pool", NativeNormPool)
