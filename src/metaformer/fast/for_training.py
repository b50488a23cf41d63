"""The same model to train, with less memory and time: fused sub-blocks on the same parameters."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.channel_mlp import ChannelMLP
from metaformer.block.metaformer_block import MetaFormerBlock
from metaformer.block.norm import ModifiedLayerNorm
from metaformer.block.residual import Residual
from metaformer.block.token_mixers.pooling import Pooling
from metaformer.core.errors import ConfigError
from metaformer.fast.fold import activation_name, fold_mlp, fold_norm
from metaformer.fast.known import OUR_BLOCKS, is_known
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.drop_path import drop_path
from metaformer.ops.norm_mlp.training import TrainedMLP, choose_trained_mlp, trained_norm_mlp
from metaformer.ops.norm_pool.reference import NormPool
from metaformer.ops.norm_pool.training import TrainedPool, choose_trained_pool, trained_norm_pool
from metaformer.ops.spare_buffers import SpareBuffers


def for_training(model: nn.Module, *, keep_hidden: bool = True, products: torch.dtype | None = None) -> MetaFormer:
    """Swaps the forward of the model's blocks for fused operators, in place.

    Parameters, their names, checkpoints and the random numbers of stochastic depth stay as they are; only blocks with
    the modified layer norm change: their pooling sub-block, and their MLP sub-block. The others are left alone, and so
    are parts of other classes than ours, subclasses included. A sub-block with a hook on one of its parts runs plainly
    for as long as the hook is there. The kernels are chosen here, and again when the model moves or is cast.

    Args:
        model: A MetaFormer; asked again, other options take effect.
        keep_hidden: On a CPU, keep the hidden tensor of each MLP, once, for the backward pass. Else it is computed
            again: less memory, a quarter more multiply-adds in the backward pass.
        products: What matrices are multiplied in: the dtype of the autocast that the model will be trained under. None:
            that of its parameters.

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
        block.spare, block.products = spare, products
        block.choose_kernels()
    if not blocks:
        raise ConfigError(
            "no block of this model can be fused for training: that takes the modified layer norm, with pooling or "
            "with a channel MLP, and a residual connection. Train it as it is."
        )
    return model


class FusedBlock(MetaFormerBlock):
    """A block whose sub-blocks keep their input, the moments of its samples and at most one hidden tensor."""

    spare: SpareBuffers | None = None  # for hidden tensors; None: they are computed again
    products: torch.dtype | None = None  # of matrix products; None: that of the parameters
    trained_pool: TrainedPool
    trained_mlp: TrainedMLP

    def choose_kernels(self) -> None:
        """For the device and the dtype of the parameters."""
        norm = self.norm2 if isinstance(self.norm2, ModifiedLayerNorm) else self.norm1
        assert isinstance(norm, ModifiedLayerNorm)
        weight = norm.weight
        place: Any = {"device": weight.device, "dtype": weight.dtype}
        self.trained_pool = choose_trained_pool(**place)
        products = weight.dtype if self.products is None else self.products
        self.trained_mlp = choose_trained_mlp(**place, products=products, channels=len(weight))

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        moments = None
        # The fused pooling is for two axes; to the fused MLP any other grid is N rows of one token.
        if _fuses_mixer(self) and x.ndim == 4:
            x, moments = self._mix(x)
        else:
            x = self.residual1(x, self.token_mixer(self.norm1(x)))
        if not _fuses_mlp(self):
            return self.residual2(x, self.channel_mlp(self.norm2(x)))
        plane = x if x.ndim == 4 else x.flatten(2).unsqueeze(3)
        return self._channel_mlp(plane, moments).reshape(x.shape)

    def _mix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        norm, mixer, residual = self.norm1, self.token_mixer, self.residual1
        assert isinstance(norm, ModifiedLayerNorm)
        assert isinstance(mixer, Pooling)
        x = _as_wide_as(norm.weight, x)
        scale = norm.weight if residual.layer_scale is None else norm.weight * residual.layer_scale
        op = NormPool(scale=scale, res_scale=residual.res_scale, pool_size=mixer.pool_size, eps=norm.eps)
        return trained_norm_pool(x, op, self.trained_pool, bias=norm.bias, factor=_factor(residual, x))

    def _channel_mlp(self, x: Tensor, moments: Tensor | None) -> Tensor:
        norm, mlp, residual = self.norm2, self.channel_mlp, self.residual2
        assert isinstance(norm, ModifiedLayerNorm)
        assert isinstance(mlp, ChannelMLP)
        assert isinstance(residual, Residual)
        x = _as_wide_as(norm.weight, x)
        # Autograd unfolds what is folded here: these are of the size of the weights.
        folded = fold_norm(norm, norm.weight)
        assert folded is not None
        op = fold_mlp(folded, mlp, residual)
        assert op is not None
        factor = _factor(residual, x)
        return trained_norm_mlp(x, op, self.trained_mlp, moments=moments, factor=factor, spare=self.spare)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FusedBlock":
        super()._apply(fn, recurse)
        self.choose_kernels()
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Kernels belong to a process and a machine.
        return {name: value for name, value in vars(self).items() if name not in ("trained_pool", "trained_mlp")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.choose_kernels()


OUR_BLOCKS.add(FusedBlock)


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
