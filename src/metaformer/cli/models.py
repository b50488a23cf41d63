"""`metaformer models`: the zoo, with costs, and where published weights are."""

from dataclasses import replace
from typing import Annotated

import torch
import tyro

from metaformer.analysis.cost import profile
from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.published import PUBLISHED
from metaformer.models.zoo import ZOO, list_models

HEADINGS = f"{'model':24} {'params':>7} {'MACs':>8} {'image':>7} {'top-1':>5}  {'licence':10}  published weights"


def models(pattern: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATTERN")] = "*") -> int:
    """Lists the models of the zoo: costs at their own image size, published top-1 (ImageNet-1K) and weights.

    Args:
        pattern: Part of a name, or a shell pattern such as 'poolformer_s*'.
    """
    names = list_models(pattern)
    if not names:
        raise ConfigError(f"no model matches {pattern!r}.{did_you_mean(pattern, ZOO)} See: metaformer models")
    print(HEADINGS)
    for name in names:
        print("\n".join(_lines(name, ZOO[name])))
    return 0


def _lines(name: str, config: MetaFormerConfig) -> list[str]:
    params, macs = costs(config)
    side = "x".join(str(side) for side in config.image_size)
    start = f"{name:24} {params / 1e6:5.1f} M {macs / 1e9:6.2f} G {side}"
    published = PUBLISHED.get(name, ())
    if not published:
        return [start]
    first, *others = published
    lines = [f"{start} {first.top1:5.1f}  {first.licence:10}  {first.url}"]
    lines += [f"{'':49}{row.top1:5.1f}  {row.licence:10}  {row.url}  ({row.trained_on})" for row in others]
    return lines


def costs(config: MetaFormerConfig) -> tuple[int, int]:
    """Parameters and MACs of a model.

    Blocks of a stage cost the same, so one of each is counted and multiplied: a list of forty models is quick.
    """
    with torch.device("meta"):
        model = MetaFormer(replace(config, depths=(1,) * config.num_stages))
    cost = profile(model, config.image_size)
    params, macs = cost.params, cost.macs
    for stage, depth in enumerate(config.depths):
        path = f"stages.{stage}.blocks.0"
        block_params = sum(tensor.numel() for tensor in model.get_submodule(path).parameters())
        params += (depth - 1) * block_params
        macs += (depth - 1) * cost.macs_under(path)
    return params, macs
