"""sail-sg/poolformer: one flat list `network` of stages, downsamplings and position embeddings."""

from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules, authors_head


def network_rules(config: MetaFormerConfig) -> Rules:
    """The rules for stages and what lies between them.

    A position embedding is an entry of its own in the list, and shifts all that follow.
    """
    rules: list[tuple[str, str]] = [(r"stages\.0\.patch_embed\.conv\.(\w+)", r"patch_embed.proj.\1")]
    index = 0
    for stage in range(config.num_stages):
        if stage:
            rules.append((rf"stages\.{stage}\.patch_embed\.conv\.(\w+)", rf"network.{index}.proj.\1"))
            index += 1
        if stage in config.position_embedding_stages:
            rules.append((rf"stages\.{stage}\.position_embed\.weight", f"network.{index}.pos_embed"))
            index += 1
        block = rf"stages\.{stage}\.blocks\.(\d+)\."
        rules += [
            (block + r"residual(\d)\.layer_scale", rf"network.{index}.\1.layer_scale_\2"),
            (block + r"channel_mlp\.(fc\d\.\w+)", rf"network.{index}.\1.mlp.\2"),
            (block + r"((?:norm\d|token_mixer)\..*)", rf"network.{index}.\1.\2"),
        ]
        index += 1
    return tuple(rules)


def _rules(config: MetaFormerConfig) -> Rules:
    return (*network_rules(config), (r"norm\.(\w+)", r"norm.\1"), (r"head\.fc\.(\w+)", r"head.\1"))


SAIL_POOLFORMER = Layout(name="sail-sg/poolformer", marker="patch_embed.proj.weight", rules=_rules, head=authors_head)
