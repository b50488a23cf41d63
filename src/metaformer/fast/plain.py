"""The basic steps in plain PyTorch, said so that the compiler and the matrix library do them well."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaformer.fast.fold import FoldedConvolution, FoldedMLP, FoldedPooling
from metaformer.fast.steps import KeepsDtype, Step
from metaformer.ops.norm_mlp.reference import ACTIVATIONS
from metaformer.ops.normalise import normalise, sample_moments
from metaformer.ops.pool_mix import pool_mix


class PlainBackend:
    """Builds steps in a dtype.

    Args:
        dtype: Of weights and features.
        sliced_pooling: Pooling as shifted sums, which a compiler fuses with what surrounds it; else one library call.
    """

    def __init__(self, dtype: torch.dtype, *, sliced_pooling: bool) -> None:
        self.dtype = dtype
        self.sliced_pooling = sliced_pooling

    def pooling(self, folded: FoldedPooling, want_moments: bool) -> nn.Module:
        return PlainPooling(folded, self.dtype, self.sliced_pooling)

    def mlp(self, folded: FoldedMLP, want_moments: bool) -> nn.Module:
        return PlainMLP(folded, self.dtype)

    def convolution(self, folded: FoldedConvolution, want_moments: bool) -> nn.Module:
        return PlainConvolution(folded, self.dtype)

    def depthwise(self, weight: Tensor, bias: Tensor) -> nn.Module:
        return PlainDepthwise(weight, bias, self.dtype)


class PlainPooling(KeepsDtype):
    """x + scale * rstd * (pool(x) - x), with the one variance that is left of the norm."""

    scale: Tensor
    res_scale: Tensor | None

    def __init__(self, folded: FoldedPooling, dtype: torch.dtype, sliced: bool) -> None:
        super().__init__()
        self.pool_size, self.norm, self.eps, self.sliced = folded.pool_size, folded.norm, folded.eps, sliced
        # Statistics and what is multiplied with them stay in float32.
        self.register_buffer("scale", folded.scale)
        self.register_buffer("res_scale", _in(dtype, folded.res_scale))

    def forward(self, x: Tensor, moments: Tensor | None) -> Step:
        scale = self.scale[None]
        if self.norm == "sample":
            moments = sample_moments(x) if moments is None else moments
            scale = scale * torch.rsqrt(moments[:, 1:] + self.eps)
        # A norm of each token does not move through the window; the others do.
        source = normalise(x, self.norm, eps=self.eps).to(x.dtype) if self.norm == "token" else x
        mixed = sliced_pool_mix(source, self.pool_size) if self.sliced else pool_mix(source, self.pool_size)
        skip = x if self.res_scale is None else x * self.res_scale[:, None, None]
        return torch.addcmul(skip, mixed, scale[:, :, None, None].to(x.dtype)), None


class PlainMLP(KeepsDtype):
    """The norm behind the first product: rstd * (W1 x - mean * row sums of W1) + b1."""

    weight1: Tensor
    row_sums: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    res_scale: Tensor | None

    def __init__(self, folded: FoldedMLP, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm, self.eps, self.skip = folded.norm, folded.eps, folded.skip
        self.activation = ACTIVATIONS[folded.activation]
        self.register_buffer("weight1", _in(dtype, folded.weight1))
        # Of the weights as rounded: what the product multiplies the mean with.
        self.register_buffer("row_sums", folded.weight1.to(dtype).to(folded.weight1).sum(dim=1))
        self.register_buffer("bias1", folded.bias1)
        self.register_buffer("weight2", _in(dtype, folded.weight2))
        self.register_buffer("bias2", _in(dtype, folded.bias2))
        self.register_buffer("res_scale", _in(dtype, folded.res_scale))

    def forward(self, x: Tensor, moments: Tensor | None) -> Step:
        tokens = x.permute(0, 2, 3, 1)
        product = F.linear(tokens, self.weight1)
        if self.norm == "none":
            hidden = product + self.bias1.to(x.dtype)
        else:
            mean, rstd = _mean_and_rstd(x, self.norm, self.eps, moments)
            hidden = ((product.to(mean) - mean * self.row_sums) * rstd + self.bias1).to(x.dtype)
        branch = F.linear(self.activation(hidden), self.weight2, self.bias2)
        if self.skip:
            branch = branch + (tokens if self.res_scale is None else tokens * self.res_scale)
        return branch.permute(0, 3, 1, 2), None


class PlainConvolution(KeepsDtype):
    """A convolution, or a linear layer, with what surrounds it."""

    weight: Tensor
    bias: Tensor
    res_scale: Tensor | None
    post_weight: Tensor | None
    post_bias: Tensor | None

    def __init__(self, folded: FoldedConvolution, dtype: torch.dtype) -> None:
        super().__init__()
        self.stride, self.padding, self.norm, self.eps = folded.stride, folded.padding, folded.norm, folded.eps
        self.is_linear = folded.weight.shape[-2:] == (1, 1) and folded.padding == 0 and folded.stride == 1
        weight = folded.weight.flatten(1) if self.is_linear else folded.weight
        memory_format = torch.contiguous_format if self.is_linear else torch.channels_last
        self.register_buffer("weight", weight.to(dtype, memory_format=memory_format))
        self.register_buffer("bias", _in(dtype, folded.bias))
        self.activation, self.act = ACTIVATIONS[folded.activation.name], folded.activation
        self.register_buffer("res_scale", _in(dtype, folded.res_scale))
        self.register_buffer("post_weight", _in(dtype, folded.post_weight))
        self.register_buffer("post_bias", _in(dtype, folded.post_bias))
        self.post_eps = folded.post_eps

    def forward(self, x: Tensor, moments: Tensor | None, residual: Tensor | None) -> Step:
        x = x if self.norm == "none" else normalise(x, self.norm, eps=self.eps, moments=moments).to(x.dtype)
        if self.is_linear:
            y = F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias)
        else:
            y = F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding).permute(0, 2, 3, 1)
        y = self.activation(y)
        if self.act.scale != 1 or self.act.shift != 0:
            y = self.act.scale * y + self.act.shift
        if self.post_weight is not None:
            y = F.layer_norm(y, self.post_weight.shape, self.post_weight, self.post_bias, self.post_eps)
        y = y.permute(0, 3, 1, 2)
        if residual is not None:
            y = y + (residual if self.res_scale is None else residual * self.res_scale[:, None, None])
        return y, None


class PlainDepthwise(KeepsDtype):
    """A depthwise convolution."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", _in(dtype, weight))
        self.register_buffer("bias", _in(dtype, bias))

    def forward(self, x: Tensor) -> Tensor:
        reach = self.weight.shape[-1] // 2
        return F.conv2d(x, self.weight, self.bias, padding=reach, groups=self.weight.shape[0])


def sliced_pool_mix(x: Tensor, pool_size: int) -> Tensor:
    """`pool_mix` as sums of shifted slices, first down and then across."""
    height, width = x.shape[-2:]
    reach = pool_size // 2
    padded = F.pad(x, (reach, reach, reach, reach))
    rows = sum((padded[..., i : i + height, :] for i in range(1, pool_size)), start=padded[..., :height, :])
    total = sum((rows[..., j : j + width] for j in range(1, pool_size)), start=rows[..., :width])
    counts = [_tokens_in_window(side, reach, x.device) for side in (height, width)]
    count = (counts[0][:, None] * counts[1]).to(x.dtype)
    # The count times the token, not the sum over the count: a constant map gives exactly zero.
    return (total - count * x) / count


def _tokens_in_window(side: int, reach: int, device: torch.device) -> Tensor:
    place = torch.arange(side, device=device)
    return (place + reach).clamp(max=side - 1) - (place - reach).clamp(min=0) + 1


def _mean_and_rstd(x: Tensor, norm: str, eps: float, moments: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each token (B, H, W, 1) or sample (B, 1, 1, 1), in float32 or wider."""
    if norm == "token":
        tokens = x.permute(0, 2, 3, 1).to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True, correction=0)
    else:
        moments = sample_moments(x) if moments is None else moments
        mean, variance = (moments[:, i, None, None, None] for i in (0, 1))
    return mean, torch.rsqrt(variance + eps)


def _in(dtype: torch.dtype, weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.detach().to(dtype)
