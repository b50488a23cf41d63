"""A model whose stages are folded: the same functions and the same interface, for evaluation."""

import copy
from dataclasses import replace
from typing import TypeGuard

from torch import Tensor, nn

from metaformer.block.channel_mlp import ChannelMLP
from metaformer.block.metaformer_block import MetaFormerBlock
from metaformer.block.norm import LayerNorm, ModifiedLayerNorm
from metaformer.block.residual import LeftOut, Residual
from metaformer.block.token_mixers.attention import Attention
from metaformer.block.token_mixers.pooling import Pooling
from metaformer.block.token_mixers.separable_conv import SeparableConv
from metaformer.fast.backends import Backend
from metaformer.fast.fold import (
    FoldedActivation,
    as_matrix,
    bias_of,
    fold_activation,
    fold_convolution,
    fold_last_linear,
    fold_linear,
    fold_mlp,
    fold_norm,
    fold_pooling,
    layer_scale_of,
    no_norm,
)
from metaformer.fast.known import OUR_BLOCKS, is_known, is_untouched
from metaformer.fast.steps import (
    AsPlane,
    AttentionStep,
    DepthwiseStep,
    IdentityStep,
    PatchEmbeddingStep,
    SeparableConvStep,
    UnfoldedMixerStep,
    UnfoldedMLPStep,
    UnfoldedStep,
)
from metaformer.models.metaformer import MetaFormer, Stage
from metaformer.models.patch_embedding import PatchEmbedding
from metaformer.ops.arguments import Features
from metaformer.ops.depthwise.reference import Depthwise

NO_ACTIVATION = FoldedActivation(name="none")


class FoldedBlock(nn.Module):
    """The two halves of a block, one step each."""

    def __init__(self, token_mixer: nn.Module, channel_mlp: nn.Module | None) -> None:
        super().__init__()
        self.token_mixer = token_mixer
        self.channel_mlp = channel_mlp

    def forward(self, x: Tensor, moments: Tensor | None) -> Features:
        x, moments = self.token_mixer(x, moments)
        return (x, moments) if self.channel_mlp is None else self.channel_mlp(x, moments)


class FoldedStage(nn.Module):
    """Patch embedding and blocks; the moments of the samples travel with the features."""

    def __init__(self, patch_embed: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x, moments = self.patch_embed(x)
        for block in self.blocks:
            x, moments = block(x, moments)
        return x


def folded(model: MetaFormer, backend: Backend) -> MetaFormer:
    """A copy in evaluation mode with the same outputs, its stages built by the backend.

    The copy holds no trainable parameters in its stages. A part that does not fold is kept as it is, and so is one of
    another class than ours, a subclass included, and one with a hook.
    """
    copied = copy.deepcopy(model).requires_grad_(False)
    for index, stage in enumerate(copied.stages):
        if type(stage) is Stage and is_untouched(stage):
            copied.stages[index] = _fold_stage(stage, backend)
    # The new parts are born in training mode.
    return copied.eval()


def _fold_stage(stage: Stage, backend: Backend) -> FoldedStage:
    # The norm that reads what a step writes decides whether the step should hand on moments.
    first, *wanted = [*(_begins_with_moments(block) for block in stage.blocks), False]
    has_class_token = not isinstance(stage.class_token, nn.Identity)
    place = nn.Sequential(stage.position_embed, stage.class_token) if has_class_token else stage.position_embed
    fold = _fold_block if type(stage.patch_embed.conv) is nn.Conv2d and not has_class_token else _fold_block_off_plane
    return FoldedStage(
        _fold_patch_embedding(stage.patch_embed, place, backend, first),
        [fold(block, backend, want) for block, want in zip(stage.blocks, wanted, strict=True)],
    )


def _fold_block_off_plane(block: nn.Module, backend: Backend, want_moments: bool) -> nn.Module:
    """A block on a grid of one or three axes: an MLP does not know how many there are, a window does."""
    folded_block = _fold_block(block, backend, want_moments)
    if isinstance(folded_block, FoldedBlock) and _is_our_block(block):
        mixer, mlp = folded_block.token_mixer, folded_block.channel_mlp
        knows_no_axes = isinstance(mixer, AttentionStep | IdentityStep)
        folded_block.token_mixer = AsPlane(mixer) if knows_no_axes else UnfoldedMixerStep(block)
        if mlp is not None and not isinstance(mlp, UnfoldedMLPStep):
            folded_block.channel_mlp = AsPlane(mlp)
    return folded_block


def _begins_with_moments(block: nn.Module) -> bool:
    return _is_our_block(block) and _reads_moments(block.norm1)


def _is_our_block(block: nn.Module) -> TypeGuard[MetaFormerBlock]:
    return type(block) in OUR_BLOCKS and is_untouched(block)


def _reads_moments(norm: nn.Module) -> bool:
    return type(norm) is ModifiedLayerNorm


def _fold_block(block: nn.Module, backend: Backend, want_moments: bool) -> nn.Module:
    if not _is_our_block(block):
        return UnfoldedStep(block)
    mlp: nn.Module | None = None
    if not isinstance(block.residual2, LeftOut):
        mlp = _fold_mlp(block, backend, want_moments)
        want_moments = _reads_moments(block.norm2)
    return FoldedBlock(_fold_mixer(block, backend, want_moments), mlp)


def _fold_mlp(block: MetaFormerBlock, backend: Backend, want_moments: bool) -> nn.Module:
    channel_mlp, residual = block.channel_mlp, block.residual2
    if not isinstance(channel_mlp, ChannelMLP) or not isinstance(residual, Residual):
        return UnfoldedMLPStep(block)
    if not is_known(block.norm2, channel_mlp, residual):
        return UnfoldedMLPStep(block)
    norm = fold_norm(block.norm2, as_matrix(channel_mlp.fc1.weight)[0])
    mlp = fold_mlp(norm, channel_mlp, residual) if norm else None
    return backend.build(mlp, want_moments=want_moments) if mlp else UnfoldedMLPStep(block)


def _fold_mixer(block: MetaFormerBlock, backend: Backend, want_moments: bool) -> nn.Module:
    mixer, residual = block.token_mixer, block.residual1
    if not is_known(block.norm1, mixer, residual):
        return UnfoldedMixerStep(block)
    like = _like(block)
    norm = None if like is None else fold_norm(block.norm1, like)
    if norm is None or not residual.skip:
        return UnfoldedMixerStep(block)
    match mixer:
        case Pooling():
            pooling = fold_pooling(norm, mixer.pool_size, residual)
            return backend.build(pooling, want_moments=want_moments) if pooling else UnfoldedMixerStep(block)
        case Attention():
            qkv = backend.build(fold_linear(norm, mixer.qkv, NO_ACTIVATION))
            proj = backend.build(fold_last_linear(mixer.proj, residual), want_moments=want_moments)
            return AttentionStep(qkv, proj, mixer.head_dim)
        case SeparableConv() if (
            type(mixer.dwconv) is nn.Conv2d and (activation := fold_activation(mixer.activation)) is not None
        ):
            pwconv1 = backend.build(fold_linear(norm, mixer.pwconv1, activation))
            pwconv2 = backend.build(fold_last_linear(mixer.pwconv2, residual), want_moments=want_moments)
            dwconv = backend.build(Depthwise(weight=mixer.dwconv.weight, bias=bias_of(mixer.dwconv)))
            return SeparableConvStep(pwconv1, dwconv, pwconv2)
        case nn.Conv2d() if _is_depthwise(mixer):
            layer_scale = layer_scale_of(residual, norm.weight)
            weight, bias = layer_scale[:, None, None, None] * mixer.weight, layer_scale * bias_of(mixer)
            return DepthwiseStep(norm, backend.build(Depthwise(weight=weight, bias=bias)), residual.res_scale)
        case nn.Identity():
            return IdentityStep(norm, layer_scale_of(residual, norm.weight), residual.res_scale)
        case _:
            return UnfoldedMixerStep(block)


def _is_depthwise(layer: nn.Conv2d) -> bool:
    size = layer.kernel_size[0]
    square = layer.kernel_size == (size, size) and size % 2 == 1 and layer.padding == (size // 2, size // 2)
    plain = layer.stride == (1, 1) and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    return square and plain and layer.groups == layer.in_channels == layer.out_channels


def _like(block: MetaFormerBlock) -> Tensor | None:
    """One number a channel, from whichever part has a parameter for each; None if none has: nothing is to fold then."""
    for part in (block.norm1, block.residual1):
        parameter = next(part.parameters(), None)
        if parameter is not None:
            return parameter
    return as_matrix(block.channel_mlp.fc1.weight)[0] if type(block.channel_mlp) is ChannelMLP else None


def _is_linear(patch_embed: PatchEmbedding) -> bool:
    others = (patch_embed.merge, patch_embed.max_pool, patch_embed.activation)
    return type(patch_embed.conv) is nn.Conv2d and all(isinstance(part, nn.Identity) for part in others)


def _fold_patch_embedding(
    patch_embed: PatchEmbedding, position_embed: nn.Module, backend: Backend, want_moments: bool
) -> PatchEmbeddingStep:
    if not is_known(patch_embed) or not _is_linear(patch_embed):
        return PatchEmbeddingStep(nn.Identity(), UnfoldedStep(patch_embed), nn.Identity(), position_embed)
    conv, pre_norm, post_norm = patch_embed.conv, patch_embed.pre_norm, patch_embed.post_norm
    assert isinstance(conv, nn.Conv2d)
    like = conv.weight[0, :, 0, 0]
    before = fold_norm(pre_norm, like)
    # Zeros surround the normalised features: what the norm adds is missing there, and does not fold.
    is_inside = conv.padding != (0, 0) and not isinstance(pre_norm, nn.Identity)
    if before is None or (is_inside and before.bias.any()):
        before = no_norm(like)
    else:
        pre_norm = nn.Identity()
    convolution = fold_convolution(before, conv)
    if isinstance(post_norm, LayerNorm):
        bias = None if post_norm.bias is None else post_norm.bias
        convolution = replace(convolution, post_weight=post_norm.weight, post_bias=bias, post_eps=post_norm.eps)
        post_norm = nn.Identity()
    return PatchEmbeddingStep(
        pre_norm, backend.build(convolution, want_moments=want_moments), post_norm, position_embed
    )
