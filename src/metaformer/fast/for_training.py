"""The same model to train, with less memory and time: fused sub-blocks on the same parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.activation import StarReLU
from metaformer.block.channel_mlp import ChannelMLP
from metaformer.block.metaformer_block import MetaFormerBlock
from metaformer.block.norm import ModifiedLayerNorm
from metaformer.block.residual import Residual
from metaformer.block.token_mixers.pooling import Pooling
from metaformer.core.errors import ConfigError
from metaformer.fast.fold import activation_name
from metaformer.fast.known import is_known
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.drop_path import drop_path
from metaformer.ops.norm_mlp.training import trained_norm_mlp
from metaformer.ops.norm_pool.training import trained_norm_pool
from metaformer.ops.spare_buffers import SpareBuffers


def for_training(model: nn.Module, *, keep_hidden: bool = True) -> MetaFormer:
    """Swaps the forward of the model's blocks for fused operators, in place.

    Parameters, their names, checkpoints and the random numbers of stochastic depth stay as they are; only blocks with
    the modified layer norm change: their pooling sub-block, and their MLP sub-block. The others are left alone, and so
    are parts of other classes than ours, subclasses included. A sub-block with a hook on one of its parts runs plainly
    for as long as the hook is there.

    Args:
        model: A MetaFormer; asked again, another `keep_hidden` takes effect.
        keep_hidden: On a CPU, keep the hidden tensor of each MLP, once, for the backward pass. Else it is computed
            again: less memory, a quarter more multiply-adds in the backward pass.

    Raises:
        ConfigError: The model is no MetaFormer, or none of its blocks can be fused.
    """
    if not isinstance(model, MetaFormer):
        raise ConfigError(f"for_training takes a MetaFormer; got {type(model).__name__}. Build one with create_model.")
    spare = SpareBuffers() if keep_hidden else None
    for module in model.modules():
        # Exactly this class: a block that somebody else changed is theirs.
        if type(module) is MetaFormerBlock and (_fuses_mixer(module) or _fuses_mlp(module)):
            module.__class__ = FusedBlock
    blocks = [module for module in model.modules() if isinstance(module, FusedBlock)]
    for block in blocks:
        # One for all: with gradient checkpointing, blocks of one size need a single buffer.
        block.spare = spare
    if not blocks:
        raise ConfigError(
            "no block of this model can be fused for training: that takes the modified layer norm, with pooling or "
            "with a channel MLP, and a residual connection. Train it as it is."
        )
    return model


class FusedBlock(MetaFormerBlock):
    """A block whose sub-blocks keep their input, the moments of its samples and at most one hidden tensor."""

    spare: SpareBuffers | None = None  # for hidden tensors; None: they are computed again

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        moments = None
        if _fuses_mixer(self):
            x, moments = self._mix(x)
        else:
            x = self.residual1(x, self.token_mixer(self.norm1(x)))
        if not _fuses_mlp(self):
            return self.residual2(x, self.channel_mlp(self.norm2(x)))
        return self._channel_mlp(x, moments)

    def _mix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        norm, mixer, residual = self.norm1, self.token_mixer, self.residual1
        assert isinstance(norm, ModifiedLayerNorm)
        assert isinstance(mixer, Pooling)
        x = _as_wide_as(norm.weight, x)
        return trained_norm_pool(
            x,
            norm.weight if residual.layer_scale is None else norm.weight * residual.layer_scale,
            norm.bias,
            pool_size=mixer.pool_size,
            eps=norm.eps,
            res_scale=residual.res_scale,
            factor=_factor(residual, x),
        )

    def _channel_mlp(self, x: Tensor, moments: Tensor | None) -> Tensor:
        norm, mlp, residual = self.norm2, self.channel_mlp, self.residual2
        assert isinstance(norm, ModifiedLayerNorm)
        assert isinstance(mlp, ChannelMLP)
        assert isinstance(residual, Residual)
        x = _as_wide_as(norm.weight, x)
        activation = activation_name(mlp.activation)
        assert activation is not None
        first, second = mlp.fc1.weight.flatten(1), mlp.fc2.weight.flatten(1)
        bias1 = first.new_zeros(first.shape[0]) if mlp.fc1.bias is None else mlp.fc1.bias
        bias2 = second.new_zeros(second.shape[0]) if mlp.fc2.bias is None else mlp.fc2.bias
        # Autograd unfolds what is folded here: these are of the size of the weights.
        if norm.bias is not None:
            bias1 = bias1 + first @ norm.bias
        if isinstance(mlp.activation, StarReLU):
            bias2 = bias2 + mlp.activation.bias * second.sum(dim=1)
            second = mlp.activation.scale * second
        if residual.layer_scale is not None:
            second, bias2 = residual.layer_scale[:, None] * second, residual.layer_scale * bias2
        return trained_norm_mlp(
            x,
            weight1=first * norm.weight,
            bias1=bias1,
            weight2=second,
            bias2=bias2,
            activation=activation,
            eps=norm.eps,
            moments=moments,
            res_scale=residual.res_scale,
            factor=_factor(residual, x),
            spare=self.spare,
        )


def _fuses_mixer(block: MetaFormerBlock) -> bool:
    norm, mixer, residual = block.norm1, block.token_mixer, block.residual1
    return (
        type(norm) is ModifiedLayerNorm and type(mixer) is Pooling and residual.skip and is_known(residual, norm, mixer)
    )


def _fuses_mlp(block: MetaFormerBlock) -> bool:
    norm, mlp, residual = block.norm2, block.channel_mlp, block.residual2
    if not isinstance(norm, ModifiedLayerNorm) or not isinstance(mlp, ChannelMLP) or not isinstance(residual, Residual):
        return False
    # Dropout between the layers would have to be drawn again in the backward pass.
    fits = residual.skip and mlp.dropout.p == 0 and activation_name(mlp.activation) is not None
    return fits and is_known(norm, mlp, residual)


def _as_wide_as(weight: Tensor, x: Tensor) -> Tensor:
    """Features as they leave a plain block under autocast: a branch of 1e-5 would vanish in bfloat16's rounding."""
    return x.to(torch.promote_types(x.dtype, weight.dtype))


def _factor(residual: Residual, x: Tensor) -> Tensor | None:
    """What stochastic depth multiplies each sample's branch with, drawn as `Residual` draws it."""
    if not residual.training or residual.drop_path == 0:
        return None
    return drop_path(x.new_ones(x.shape[0]), residual.drop_path, residual.drop_path_noise)
