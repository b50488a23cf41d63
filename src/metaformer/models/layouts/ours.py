"""Our own layout."""

from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules


def _rules(_config: MetaFormerConfig) -> Rules:
    return ((r"(.*)", r"\1"),)


OURS = Layout(name="metaformer", marker="stages.0.patch_embed.conv.weight", rules=_rules)
