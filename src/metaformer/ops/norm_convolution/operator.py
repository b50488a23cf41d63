"""`torch.ops.metaformer.norm_convolution`: a convolution with what surrounds it as an operator, for inference."""

import ctypes

import torch
from torch import Tensor

from metaformer.core.errors import ShapeError
from metaformer.ops.native.library import ACTIVATION_KINDS, NORM_KINDS, NativeLibrary, address, moments_address
from metaformer.ops.native.operators import channels_last, empty_moments, no_moments, register_operator
from metaformer.ops.native.packing import round_up, unpack_panels
from metaformer.ops.norm_convolution.reference import norm_convolution as reference


def _plain(
    x: Tensor,
    moments: Tensor | None,
    panels_PKT: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    res_scale: Tensor | None,
    post_weight: Tensor | None,
    post_bias: Tensor | None,
    out_channels: int,
    kernel_size: int,
    stride: int,
    padding: int,
    activation: str,
    act_scale: float,
    act_shift: float,
    norm: str,
    eps: float,
    post_eps: float,
    want_moments: bool,
) -> tuple[Tensor, Tensor]:
    # A row of the packed matrix is a window: kernel rows, kernel columns, channels.
    windows = unpack_panels(panels_PKT, out_channels).unflatten(1, (kernel_size, kernel_size, -1))
    y, y_moments = reference(
        x,
        windows.permute(0, 3, 1, 2),
        bias[:out_channels],
        stride=stride,
        padding=padding,
        norm=norm,
        eps=eps,
        moments=moments,
        activation=activation,
        act_scale=act_scale,
        act_shift=act_shift,
        post_weight=post_weight,
        post_bias=post_bias,
        post_eps=post_eps,
        residual=residual,
        res_scale=res_scale,
    )
    return channels_last(y), y_moments if want_moments else no_moments(x)


def _native(
    library: NativeLibrary,
    x: Tensor,
    moments: Tensor | None,
    panels_PKT: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    res_scale: Tensor | None,
    post_weight: Tensor | None,
    post_bias: Tensor | None,
    out_channels: int,
    kernel_size: int,
    stride: int,
    padding: int,
    activation: str,
    act_scale: float,
    act_shift: float,
    norm: str,
    eps: float,
    post_eps: float,
    want_moments: bool,
) -> tuple[Tensor, Tensor]:
    if panels_PKT.shape[2] != library.tile_columns:
        # Packed on another kind of machine.
        weights = (panels_PKT, bias, residual, res_scale, post_weight, post_bias)
        shape, act = (out_channels, kernel_size, stride, padding), (activation, act_scale, act_shift)
        return _plain(x, moments, *weights, *shape, *act, norm, eps, post_eps, want_moments)
    batch, channels, height, width = x.shape
    x = channels_last(x)
    padded_out = round_up(out_channels, library.tile_columns)
    out_grid = [(side + 2 * padding - kernel_size) // stride + 1 for side in (height, width)]
    if min(out_grid) < 1:
        raise ShapeError(
            f"a kernel of {kernel_size} with padding {padding} does not fit into {height}x{width} tokens; "
            "the image is too small for this model."
        )
    out = torch.empty((batch, out_channels, *out_grid), dtype=x.dtype, memory_format=torch.channels_last)
    if residual is not None:
        if residual.shape != out.shape or residual.dtype != x.dtype:
            raise ShapeError(f"the residual must be like the result, {tuple(out.shape)}; got {tuple(residual.shape)}.")
        residual = channels_last(residual)
    out_moments = empty_moments(x, want_moments)
    library.functions.mf_convolution(
        x.dtype == torch.bfloat16,
        x.data_ptr(),
        out.data_ptr(),
        out_moments.data_ptr() if want_moments else None,
        None if residual is None else residual.data_ptr(),
        address(res_scale, out_channels, "res_scale"),
        NORM_KINDS[norm],
        moments_address(moments, norm, batch),
        eps,
        address(panels_PKT, padded_out * kernel_size**2 * channels, "panels"),
        address(bias, padded_out, "bias"),
        address(post_weight, out_channels, "post_weight"),
        address(post_bias, out_channels, "post_bias"),
        post_eps,
        (ctypes.c_long * 4)(*x.shape),
        (ctypes.c_long * 5)(kernel_size, kernel_size, stride, padding, out_channels),
        ACTIVATION_KINDS[activation],
        act_scale,
        act_shift,
        torch.get_num_threads(),
    )
    return out, out_moments


# The kernel as a matrix (out channels, kernel rows * kernel columns * channels), packed by ops/native/packing.py.
norm_convolution = register_operator(
    "norm_convolution(Tensor x, Tensor? moments, Tensor panels, Tensor bias, Tensor? residual, Tensor? res_scale, "
    "Tensor? post_weight, Tensor? post_bias, int out_channels, int kernel_size, int stride, int padding, "
    "str activation, float act_scale, float act_shift, str norm, float eps, float post_eps, bool want_moments) "
    "-> (Tensor, Tensor)",
    plain=_plain,
    native=_native,
)
