"""sail-sg/metaformer: channels last inside, so 1x1 convolutions are linear layers."""

import re
from dataclasses import replace

from metaformer.block.norm import LayerNormConfig
from metaformer.models.config import HeadConfig, MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules


def block_rules(block: str) -> Rules:
    """The rules inside a block, for our prefix with two groups; theirs is `{}` in the templates."""
    return (
        (block + r"channel_mlp\.(fc\d\.\w+)", r"{}mlp.\3"),
        (block + r"channel_mlp\.activation\.(\w+)", r"{}mlp.act.\3"),
        (block + r"token_mixer\.activation\.(\w+)", r"{}token_mixer.act1.\3"),
        (block + r"((?:norm\d|token_mixer)\..*)", r"{}\3"),
        (block + r"residual(\d)\.res_scale", r"{}res_scale\3.scale"),
        (block + r"residual(\d)\.layer_scale", r"{}layer_scale\3.scale"),
    )


def _rules(config: MetaFormerConfig) -> Rules:
    blocks = block_rules(r"stages\.(\d)\.blocks\.(\d+)\.")
    has_hidden = config.head.hidden_ratio is not None
    return (
        (r"stages\.(\d)\.patch_embed\.((?:conv|pre_norm|post_norm)\.\w+)", r"downsample_layers.\1.\2"),
        *((ours, theirs.format(r"stages.\1.\2.")) for ours, theirs in blocks),
        (r"norm\.(\w+)", r"norm.\1"),
        (r"head\.hidden\.fc\.(\w+)", r"head.fc1.\1"),
        (r"head\.hidden\.norm\.(\w+)", r"head.norm.\1"),
        (r"head\.fc\.(\w+)", r"head.fc2.\1" if has_hidden else r"head.\1"),
    )


def is_pointwise(key: str) -> bool:
    """Whether the tensor is the weight of a 1x1 convolution inside a block."""
    return bool(re.search(r"\.(channel_mlp\.fc\d|token_mixer\.pwconv\d)\.weight$", key))


def _is_matrix(key: str, _config: MetaFormerConfig) -> bool:
    return is_pointwise(key)


def _head(head: HeadConfig) -> HeadConfig:
    """The mean first, then a layer norm; the norm inside the MLP head has another epsilon than all others."""
    return replace(head, norm=LayerNormConfig(eps=1e-6), norm_after_pooling=True, hidden_norm_eps=1e-5)


SAIL_METAFORMER = Layout(
    name="sail-sg/metaformer",
    marker="downsample_layers.0.conv.weight",
    rules=_rules,
    is_matrix=_is_matrix,
    head=_head,
)
