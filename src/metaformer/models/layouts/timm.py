"""timm's layout since 0.9; timm before that used sail-sg/poolformer's."""

from dataclasses import replace

from metaformer.block.norm import LayerNormConfig
from metaformer.block.token_mixers import AttentionConfig
from metaformer.models.config import HeadConfig, MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules
from metaformer.models.layouts.sail_metaformer import block_rules, is_pointwise


def _rules(config: MetaFormerConfig) -> Rules:
    blocks = block_rules(r"stages\.(\d)\.blocks\.(\d+)\.")
    has_hidden = config.head.hidden_ratio is not None
    return (
        (r"stages\.0\.patch_embed\.conv\.(\w+)", r"stem.conv.\1"),
        (r"stages\.0\.patch_embed\.post_norm\.(\w+)", r"stem.norm.\1"),
        (r"stages\.(\d)\.patch_embed\.conv\.(\w+)", r"stages.\1.downsample.conv.\2"),
        (r"stages\.(\d)\.patch_embed\.pre_norm\.(\w+)", r"stages.\1.downsample.norm.\2"),
        *((ours, theirs.format(r"stages.\1.blocks.\2.")) for ours, theirs in blocks),
        (r"norm\.(\w+)", r"head.norm.\1"),
        (r"head\.hidden\.fc\.(\w+)", r"head.fc.fc1.\1"),
        (r"head\.hidden\.norm\.(\w+)", r"head.fc.norm.\1"),
        (r"head\.fc\.(\w+)", r"head.fc.fc2.\1" if has_hidden else r"head.fc.\1"),
    )


def _is_matrix(key: str, config: MetaFormerConfig) -> bool:
    """In stages with attention timm keeps tokens as (B, N, C), so 1x1 convolutions are linear layers there."""
    return is_pointwise(key) and isinstance(config.token_mixers[int(key.split(".")[1])], AttentionConfig)


def _head(head: HeadConfig) -> HeadConfig:
    """Their head takes the mean first, then a layer norm with epsilon 1e-6, for PoolFormer too."""
    return replace(head, norm=LayerNormConfig(eps=1e-6), norm_after_pooling=True, hidden_norm_eps=1e-6)


TIMM = Layout(name="timm", marker="stem.conv.weight", rules=_rules, is_matrix=_is_matrix, head=_head)
