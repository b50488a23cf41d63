"""What a folded stage is made of: each step takes features and, where they are known, the moments of their samples.

A backend says how the fused operators are computed; how they are put together is the same for all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaformer.block.metaformer_block import MetaFormerBlock
from metaformer.fast.fold import FoldedNorm
from metaformer.ops.arguments import Features
from metaformer.ops.normalise import normalise, sample_moments


class SeparableConvStep(nn.Module):
    """x + pwconv2(dwconv(activation(pwconv1(norm(x)))))."""

    def __init__(self, pwconv1: nn.Module, dwconv: nn.Module, pwconv2: nn.Module) -> None:
        super().__init__()
        self.pwconv1, self.dwconv, self.pwconv2 = pwconv1, dwconv, pwconv2

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        hidden, _ = self.pwconv1(x, moments)
        hidden, _ = self.dwconv(hidden)
        return self.pwconv2(hidden, None, x)


class AttentionStep(nn.Module):
    """x + proj(attention(qkv(norm(x))))."""

    def __init__(self, qkv: nn.Module, proj: nn.Module, head_dim: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.head_dim = qkv, proj, head_dim

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        qkv, _ = self.qkv(x, moments)
        # (B, 3C, H, W) with the channels together in memory: a view, as are all lines until the attention.
        tokens_BNF = qkv.permute(0, 2, 3, 1).flatten(1, 2)
        qkv_TBHND = tokens_BNF.unflatten(2, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        mixed_BHND = F.scaled_dot_product_attention(*qkv_TBHND.unbind(0))
        mixed_BNC = mixed_BHND.transpose(1, 2).flatten(2)
        return self.proj(mixed_BNC.transpose(1, 2).unflatten(2, x.shape[-2:]), None, x)


class DepthwiseStep(nn.Module):
    """x + layer_scale * dwconv(norm(x)): the norm's bias does not fold through the zeros around the features."""

    weight: Tensor
    bias: Tensor
    res_scale: Tensor | None

    def __init__(self, norm: FoldedNorm, dwconv: nn.Module, res_scale: Tensor | None) -> None:
        super().__init__()
        self.kind, self.eps, self.dwconv = norm.kind, norm.eps, dwconv
        self.register_buffer("weight", norm.weight[:, None, None])
        self.register_buffer("bias", norm.bias[:, None, None])
        self.register_buffer("res_scale", None if res_scale is None else res_scale[:, None, None])

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        normed = normalise(x, self.kind, eps=self.eps, moments=moments).to(x.dtype) * self.weight + self.bias
        skip = x if self.res_scale is None else x * self.res_scale
        mixed, _ = self.dwconv(normed)
        return skip + mixed, None


class IdentityStep(nn.Module):
    """x + layer_scale * norm(x), which is one gain and one shift for each sample and channel."""

    scale: Tensor
    shift: Tensor
    skip: Tensor

    def __init__(self, norm: FoldedNorm, layer_scale: Tensor, res_scale: Tensor | None) -> None:
        super().__init__()
        self.kind, self.eps = norm.kind, norm.eps
        self.register_buffer("scale", layer_scale * norm.weight)
        self.register_buffer("shift", layer_scale * norm.bias)
        self.register_buffer("skip", torch.ones_like(layer_scale) if res_scale is None else res_scale)

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        if self.kind == "none":
            return torch.addcmul(self.shift[:, None, None], x, (self.skip + self.scale)[:, None, None]), None
        if self.kind == "token":
            normed = normalise(x, self.kind, eps=self.eps).to(x.dtype)
            skip = torch.addcmul(self.shift[:, None, None], x, self.skip[:, None, None])
            return torch.addcmul(skip, normed, self.scale[:, None, None]), None
        moments = sample_moments(x) if moments is None else moments
        mean, rstd = moments[:, :1], torch.rsqrt(moments[:, 1:] + self.eps)
        gain, shift = self.skip + self.scale * rstd, self.shift - self.scale * rstd * mean
        y = torch.addcmul(shift[:, :, None, None].to(x.dtype), x, gain[:, :, None, None].to(x.dtype))
        return y, None


class AsPlane(nn.Module):
    """A step that mixes all tokens or none, on a grid of another number of axes than two: as N rows of one token."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        y, moments = self.step(x.flatten(2).unsqueeze(3), moments)
        return y.reshape(x.shape), moments


class UnfoldedMixerStep(nn.Module):
    """The first half of a block as it is: for mixers that we do not know how to fold."""

    def __init__(self, block: MetaFormerBlock) -> None:
        super().__init__()
        self.norm, self.token_mixer, self.residual = block.norm1, block.token_mixer, block.residual1

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        return self.residual(x, self.token_mixer(self.norm(x))), None


class UnfoldedMLPStep(nn.Module):
    """The second half of a block as it is."""

    def __init__(self, block: MetaFormerBlock) -> None:
        super().__init__()
        self.norm, self.channel_mlp, self.residual = block.norm2, block.channel_mlp, block.residual2

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        return self.residual(x, self.channel_mlp(self.norm(x))), None


class UnfoldedStep(nn.Module):
    """A block or a patch embedding that is not ours, or does not fold, as it is."""

    def __init__(self, kept: nn.Module) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor, moments: Tensor | None = None) -> Features:
        return self.kept(x), None


class PatchEmbeddingStep(nn.Module):
    """Norm where there is one, convolution, norm where there is one, position embedding where there is one."""

    def __init__(self, pre_norm: nn.Module, conv: nn.Module, post_norm: nn.Module, position_embed: nn.Module) -> None:
        super().__init__()
        self.pre_norm, self.conv, self.post_norm, self.position_embed = pre_norm, conv, post_norm, position_embed

    def forward(self, x: Tensor) -> Features:
        x, moments = self.conv(self.pre_norm(x))
        unchanged = isinstance(self.post_norm, nn.Identity) and isinstance(self.position_embed, nn.Identity)
        return self.position_embed(self.post_norm(x)), moments if unchanged else None
