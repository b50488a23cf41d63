"""`torch.ops.metaformer.norm_mlp`: the fused channel MLP sub-block as an operator, for inference."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaformer.ops.arguments import Features, as_floats, with_weights
from metaformer.ops.native.library import ACTIVATION_KINDS, NORM_KINDS, NativeLibrary, address, moments_address
from metaformer.ops.native.operators import (
    channels_last,
    empty_moments,
    no_moments,
    register_operator,
    run_operator,
)
from metaformer.ops.native.packing import (
    fill_up,
    pack_blocks,
    pack_panels,
    round_up,
    unpack_blocks,
    unpack_panels,
)
from metaformer.ops.norm_mlp.reference import NormMLP, norm_mlp
from metaformer.ops.normalise import norm_macs


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeNormMLP:
    """The weights of `NormMLP` in the order of ops/native/packing.py, in float32."""

    fc1: Tensor  # (P, K, T)
    bias1: Tensor
    fc2: Tensor  # (S, P, D, T)
    bias2: Tensor
    res_scale: Tensor | None
    hidden: int
    activation: str
    norm: str
    eps: float
    skip: bool
    want_moments: bool

    @classmethod
    def pack(cls, op: NormMLP, library: NativeLibrary, *, want_moments: bool = False) -> "NativeNormMLP":
        """What the C++ of this library reads."""
        columns, named = library.tile_columns, with_weights(op, as_floats)
        weight1, weight2 = named.pop("weight1"), named.pop("weight2")
        named["bias1"], named["bias2"] = (fill_up(named[name], columns) for name in ("bias1", "bias2"))
        return cls(
            fc1=pack_panels(weight1, columns),
            fc2=pack_blocks(weight2, columns),
            hidden=len(weight1),
            want_moments=want_moments,
            **named,
        )

    def unpacked(self, channels: int) -> NormMLP:
        """What `pack` was given."""
        return NormMLP(
            weight1=unpack_panels(self.fc1, self.hidden),
            bias1=self.bias1[: self.hidden],
            weight2=unpack_blocks(self.fc2, channels, self.hidden),
            bias2=self.bias2[:channels],
            res_scale=self.res_scale,
            activation=self.activation,
            norm=self.norm,
            eps=self.eps,
            skip=self.skip,
        )

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The sub-block."""
        return run_operator(OPERATOR, self, x, moments, residual)

    def plain(self, x: Tensor, moments: Tensor | None, _residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """By the definition."""
        z, z_moments = norm_mlp(x, self.unpacked(x.shape[1]), moments=moments)
        return channels_last(z), z_moments if self.want_moments else no_moments(x)

    def native(
        self,
        library: NativeLibrary,
        x: Tensor,
        moments: Tensor | None,
        residual: Tensor | None,
        hidden_out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """In C++; `hidden_out` receives the hidden tensor before the activation, (panels, rows, columns).

        Only weights that were packed for this library leave anything there.
        """
        columns, block = library.tile_columns, self.fc2.shape[2]
        if self.fc1.shape[2] != columns or block % columns:
            # Packed on another kind of machine.
            return self.plain(x, moments, residual)
        x = channels_last(x)
        batch, channels, height, width = x.shape
        padded_hidden, blocks = round_up(self.hidden, columns), -(-self.hidden // block)
        out, out_moments = torch.empty_like(x), empty_moments(x, self.want_moments)
        library.functions.mf_norm_mlp(
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            out.data_ptr(),
            out_moments.data_ptr() if self.want_moments else None,
            address(hidden_out, batch * height * width * padded_hidden, "hidden_out"),
            x.data_ptr() if self.skip else None,
            address(self.res_scale, channels, "res_scale"),
            NORM_KINDS[self.norm],
            moments_address(moments, self.norm, batch),
            self.eps,
            address(self.fc1, padded_hidden * channels, "fc1"),
            address(self.bias1, padded_hidden, "bias1"),
            address(self.fc2, blocks * block * round_up(channels, columns), "fc2"),
            address(self.bias2, round_up(channels, columns), "bias2"),
            batch,
            height * width,
            channels,
            self.hidden,
            block,
            ACTIVATION_KINDS[self.activation],
            torch.get_num_threads(),
        )
        return out, out_moments

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """Of the norm and both layers."""
        batch, channels, height, width = x_shape
        return norm_macs(self.norm, x_shape) + 2 * batch * height * width * channels * self.hidden


OPERATOR = register_operator("norm_mlp", NativeNormMLP)
