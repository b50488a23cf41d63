"""`torch.ops.metaformer.norm_mlp`: the fused channel MLP sub-block as an operator, for inference."""

import torch
from torch import Tensor

from metaformer.ops.native.library import ACTIVATION_KINDS, NORM_KINDS, NativeLibrary, address, moments_address
from metaformer.ops.native.operators import channels_last, empty_moments, no_moments, register_operator
from metaformer.ops.native.packing import round_up, unpack_blocks, unpack_panels
from metaformer.ops.norm_mlp.reference import norm_mlp as reference


def _plain(
    x: Tensor,
    moments: Tensor | None,
    fc1_PKT: Tensor,
    bias1: Tensor,
    fc2_SPDT: Tensor,
    bias2: Tensor,
    res_scale: Tensor | None,
    hidden: int,
    activation: str,
    norm: str,
    eps: float,
    skip: bool,
    want_moments: bool,
) -> tuple[Tensor, Tensor]:
    z, z_moments = reference(
        x,
        weight1=unpack_panels(fc1_PKT, hidden),
        bias1=bias1[:hidden],
        weight2=unpack_blocks(fc2_SPDT, x.shape[1], hidden),
        bias2=bias2[: x.shape[1]],
        activation=activation,
        norm=norm,
        eps=eps,
        moments=moments,
        res_scale=res_scale,
        skip=skip,
    )
    return channels_last(z), z_moments if want_moments else no_moments(x)


def native_norm_mlp(
    library: NativeLibrary,
    x: Tensor,
    moments: Tensor | None,
    fc1_PKT: Tensor,
    bias1: Tensor,
    fc2_SPDT: Tensor,
    bias2: Tensor,
    res_scale: Tensor | None,
    hidden: int,
    activation: str,
    norm: str,
    eps: float,
    skip: bool,
    want_moments: bool,
    hidden_out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The operator in C++; `hidden_out` receives the hidden tensor before the activation, (panels, rows, columns).

    Only weights that were packed for this library leave anything there.
    """
    columns, block = library.tile_columns, fc2_SPDT.shape[2]
    if fc1_PKT.shape[2] != columns or block % columns:
        # Packed on another kind of machine.
        options = (hidden, activation, norm, eps, skip, want_moments)
        return _plain(x, moments, fc1_PKT, bias1, fc2_SPDT, bias2, res_scale, *options)
    x = channels_last(x)
    batch, channels, height, width = x.shape
    padded_hidden, blocks = round_up(hidden, columns), -(-hidden // block)
    out, out_moments = torch.empty_like(x), empty_moments(x, want_moments)
    library.functions.mf_norm_mlp(
        x.dtype == torch.bfloat16,
        x.data_ptr(),
        out.data_ptr(),
        out_moments.data_ptr() if want_moments else None,
        address(hidden_out, batch * height * width * padded_hidden, "hidden_out"),
        x.data_ptr() if skip else None,
        address(res_scale, channels, "res_scale"),
        NORM_KINDS[norm],
        moments_address(moments, norm, batch),
        eps,
        address(fc1_PKT, padded_hidden * channels, "fc1"),
        address(bias1, padded_hidden, "bias1"),
        address(fc2_SPDT, blocks * block * round_up(channels, columns), "fc2"),
        address(bias2, round_up(channels, columns), "bias2"),
        batch,
        height * width,
        channels,
        hidden,
        block,
        ACTIVATION_KINDS[activation],
        torch.get_num_threads(),
    )
    return out, out_moments


# z = res_scale * x + W2 activation(W1 norm(x) + b1) + b2, with weights packed by ops/native/packing.py.
norm_mlp = register_operator(
    "norm_mlp(Tensor x, Tensor? moments, Tensor fc1, Tensor bias1, Tensor fc2, Tensor bias2, Tensor? res_scale, "
    "int hidden, str activation, str norm, float eps, bool skip, bool want_moments) -> (Tensor, Tensor)",
    plain=_plain,
    native=native_norm_mlp,
)
