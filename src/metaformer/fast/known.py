"""Which modules the fast path may replace: exactly those that it knows, as their authors left them."""

from torch import nn

from metaformer.block.activation import SquaredReLU, StarReLU
from metaformer.block.channel_mlp import ChannelMLP
from metaformer.block.metaformer_block import MetaFormerBlock
from metaformer.block.norm import Affine, BatchNorm, LayerNorm, ModifiedLayerNorm
from metaformer.block.residual import LeftOut, Residual
from metaformer.block.token_mixers.attention import Attention
from metaformer.block.token_mixers.pooling import Pooling
from metaformer.block.token_mixers.separable_conv import SeparableConv
from metaformer.models.patch_embedding import PatchEmbedding

KNOWN: frozenset[type[nn.Module]] = frozenset(
    {
        *(Pooling, Attention, SeparableConv, ChannelMLP, Residual, LeftOut),
        *(PatchEmbedding, ModifiedLayerNorm, LayerNorm, BatchNorm, Affine),
        *(nn.Identity, nn.Dropout, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.GELU, nn.ReLU, nn.SiLU, SquaredReLU, StarReLU),
    }
)
# Blocks that are ours. That of training joins them where its class is defined: who only runs models need not load what
# training needs, PyTorch's compiler among it.
OUR_BLOCKS: set[type[MetaFormerBlock]] = {MetaFormerBlock}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_known(*modules: nn.Module) -> bool:
    """Whether all of these, and all inside them, are of classes in KNOWN (a subclass is not) and untouched."""
    return all(type(part) in KNOWN and is_untouched(part) for module in modules for part in module.modules())


def is_untouched(module: nn.Module) -> bool:
    """Whether nobody listens to the module, by a hook, or gave this one object a forward of its own."""
    return not any(getattr(module, name) for name in HOOKS) and "forward" not in vars(module)
