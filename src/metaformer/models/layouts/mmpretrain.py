"""open-mmlab/mmpretrain: sail-sg/poolformer's names behind `backbone.`, the final norm named after its output.

From their source alone: it could not be run beside this package.
"""

from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules, authors_head
from metaformer.models.layouts.sail_poolformer import network_rules


def _rules(config: MetaFormerConfig) -> Rules:
    last = 2 * (config.num_stages - 1)
    return (
        *((ours, f"backbone.{theirs}") for ours, theirs in network_rules(config)),
        (r"norm\.(\w+)", rf"backbone.norm{last}.\1"),
        (r"head\.fc\.(\w+)", r"head.fc.\1"),
    )


MMPRETRAIN = Layout(name="mmpretrain", marker="backbone.patch_embed.proj.weight", rules=_rules, head=authors_head)
