"""`metaformer models`: the zoo, with costs."""

from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from metaformer.analysis.cost import profile
from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.core.configs import format_config
from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO, list_models


def models(pattern: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATTERN")] = "*") -> int:
    """Lists the models of the zoo with their costs at their own image size.

    Args:
        pattern: Part of a name, or a shell pattern such as 'poolformer_s*'.
    """
    names = list_models(pattern)
    if not names:
        raise ConfigError(f"no model matches {pattern!r}.{did_you_mean(pattern, ZOO)} See: metaformer models")
    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("token mixers")
    for title in ("params", "MACs", "image"):
        table.add_column(title, justify="right")
    for name in names:
        config = ZOO[name]
        with torch.device("meta"):
            model = MetaFormer(config)
        cost = profile(model, config.image_size)
        table.add_row(
            name,
            ", ".join(format_config(mixer, TOKEN_MIXERS) for mixer in dict.fromkeys(config.token_mixers)),
            f"{cost.params / 1e6:.1f} M",
            f"{cost.macs / 1e9:.2f} G",
            "x".join(str(side) for side in config.image_size),
        )
    Console(soft_wrap=True).print(table)
    return 0
