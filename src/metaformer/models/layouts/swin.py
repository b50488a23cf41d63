"""Swin: the authors' layout (microsoft/Swin-Transformer), where a stage ends with the patch merging, and timm's.

The authors' files hold two kinds of buffers that follow from the window; they are left out here and there.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules

BUFFERS = ("relative_position_index", "attn_mask")


def _rules(config: MetaFormerConfig, *, merging_of: Callable[[int], int], head: str) -> Rules:
    rules: list[tuple[str, str]] = [
        (r"stages\.0\.patch_embed\.conv\.(\w+)", r"patch_embed.proj.\1"),
        (r"stages\.0\.patch_embed\.post_norm\.(\w+)", r"patch_embed.norm.\1"),
    ]
    for stage in range(config.num_stages):
        merging = rf"layers.{merging_of(stage)}.downsample"
        rules += [
            (rf"stages\.{stage}\.patch_embed\.pre_norm\.(\w+)", rf"{merging}.norm.\1"),
            (rf"stages\.{stage}\.patch_embed\.conv\.weight", rf"{merging}.reduction.weight"),
        ]
    block, theirs = r"stages\.(\d)\.blocks\.(\d+)\.", r"layers.\1.blocks.\2."
    return (
        *rules,
        (block + r"token_mixer\.((?:qkv|proj)\.\w+|relative_position_bias_table)", theirs + r"attn.\3"),
        (block + r"channel_mlp\.(fc\d\.\w+)", theirs + r"mlp.\3"),
        (block + r"(norm\d\.\w+)", theirs + r"\3"),
        (r"norm\.(\w+)", r"norm.\1"),
        (r"head\.fc\.(\w+)", head),
    )


def _is_matrix(key: str, _config: MetaFormerConfig) -> bool:
    is_merging = key.endswith(".patch_embed.conv.weight") and not key.startswith("stages.0.")
    return is_merging or (".channel_mlp.fc" in key and key.endswith(".weight"))


def _unpack(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in theirs.items() if not key.endswith(BUFFERS)}


SWIN = Layout(
    name="microsoft/Swin-Transformer",
    marker="patch_embed.proj.weight",
    beside="layers.0.downsample.norm.weight",
    rules=partial(_rules, merging_of=lambda stage: stage - 1, head=r"head.\1"),
    is_matrix=_is_matrix,
    unpack=_unpack,
)
TIMM_SWIN = Layout(
    name="timm-swin",
    marker="patch_embed.proj.weight",
    beside="layers.1.downsample.norm.weight",
    rules=partial(_rules, merging_of=lambda stage: stage, head=r"head.fc.\1"),
    is_matrix=_is_matrix,
    unpack=_unpack,
)
