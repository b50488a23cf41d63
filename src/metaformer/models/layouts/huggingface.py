"""Hugging Face transformers: PoolFormerForImageClassification."""

from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules, authors_head

NORMS = {"1": "before_norm", "2": "after_norm"}


def _rules(_config: MetaFormerConfig) -> Rules:
    block, theirs = r"stages\.(\d)\.blocks\.(\d+)\.", r"poolformer.encoder.block.\1.\2."
    return (
        (r"stages\.(\d)\.patch_embed\.conv\.(\w+)", r"poolformer.encoder.patch_embeddings.\1.projection.\2"),
        *((rf"{block}norm{number}\.(\w+)", rf"{theirs}{name}.\3") for number, name in NORMS.items()),
        (block + r"channel_mlp\.fc(\d)\.(\w+)", theirs + r"output.conv\3.\4"),
        (block + r"residual(\d)\.layer_scale", theirs + r"layer_scale_\3"),
        (r"norm\.(\w+)", r"norm.\1"),
        (r"head\.fc\.(\w+)", r"classifier.\1"),
    )


HUGGINGFACE = Layout(
    name="huggingface",
    marker="poolformer.encoder.patch_embeddings.0.projection.weight",
    rules=_rules,
    head=authors_head,
)
