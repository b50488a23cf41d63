"""`torch.ops.metaformer.norm_pool`: the fused pooling sub-block as an operator, for inference."""

import torch
from torch import Tensor

from metaformer.ops.native.library import NORM_KINDS, NativeLibrary, address, moments_address
from metaformer.ops.native.operators import channels_last, empty_moments, no_moments, register_operator
from metaformer.ops.norm_pool.reference import norm_pool as reference


def _plain(
    x: Tensor,
    moments: Tensor | None,
    scale: Tensor,
    res_scale: Tensor | None,
    pool_size: int,
    norm: str,
    eps: float,
    want_moments: bool,
) -> tuple[Tensor, Tensor]:
    y, y_moments = reference(x, scale, pool_size=pool_size, norm=norm, eps=eps, moments=moments, res_scale=res_scale)
    return channels_last(y), y_moments if want_moments else no_moments(x)


def _native(
    library: NativeLibrary,
    x: Tensor,
    moments: Tensor | None,
    scale: Tensor,
    res_scale: Tensor | None,
    pool_size: int,
    norm: str,
    eps: float,
    want_moments: bool,
) -> tuple[Tensor, Tensor]:
    x = channels_last(x)
    batch, channels, height, width = x.shape
    out, out_moments = torch.empty_like(x), empty_moments(x, want_moments)
    library.functions.mf_norm_pool(
        x.dtype == torch.bfloat16,
        x.data_ptr(),
        out.data_ptr(),
        out_moments.data_ptr() if want_moments else None,
        address(res_scale, channels, "res_scale"),
        NORM_KINDS[norm],
        moments_address(moments, norm, batch),
        eps,
        address(scale, channels, "scale"),
        batch,
        height,
        width,
        channels,
        pool_size,
        torch.get_num_threads(),
    )
    return out, out_moments


# y = res_scale * x + scale * (pool(n) - n), n = norm(x); norm "sample" needs the moments of x.
norm_pool = register_operator(
    "norm_pool(Tensor x, Tensor? moments, Tensor scale, Tensor? res_scale, int pool_size, str norm, float eps, "
    "bool want_moments) -> (Tensor, Tensor)",
    plain=_plain,
    native=_native,
)
