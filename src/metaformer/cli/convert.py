"""`metaformer convert`: weights from any known layout to any other."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from metaformer.core.atomic_write import refusing_unwritable
from metaformer.core.errors import ConfigError
from metaformer.models.config import MetaFormerConfig
from metaformer.models.export import export_weights
from metaformer.models.identify import identify
from metaformer.models.layouts import Layout, recognise
from metaformer.models.load_weights import load_weights, num_classes_of
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights, read_weights
from metaformer.models.zoo import ZOO


def convert(
    src: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")],
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")],
    /,
    to: str = "metaformer",
    model: str | None = None,
    force: bool = False,
) -> int:
    """Converts weights between layouts.

    Known are metaformer (ours), sail-sg/poolformer, sail-sg/metaformer, timm, huggingface and mmpretrain.

    Args:
        src: A file, run folder, URL or hub id (hf://owner/name); its layout is recognised by its keys.
        dst: The file to write: .safetensors, or .pth, .pt, .bin for PyTorch's format.
        to: The layout to write.
        model: The zoo's name of the model; found from the weights where they tell.
        force: Replace a file that is there.
    """
    with refusing_unwritable(dst):
        is_there = dst.exists()
    if is_there and not force:
        raise ConfigError(f"{dst} exists. Choose another name, or say --force to replace it.")
    weights = read_weights(src)
    layout = recognise(weights.state, weights.source)
    name = model or ("" if weights.config else identify(weights))
    config = ZOO[name] if name else weights.config
    assert config is not None
    built = MetaFormer(_fitted(config, weights, layout))
    report = load_weights(built, weights)
    notes = export_weights(built, dst, to, class_names=weights.class_names)
    print(f"model   {name or 'as the file says'}")
    print(report)
    print(f"\nwrote {dst}, layout {to}, {dst.stat().st_size / 2**20:.1f} MiB")
    for note in notes:
        print(f"note: {note}")
    return 0


def _fitted(config: MetaFormerConfig, weights: Weights, layout: Layout) -> MetaFormerConfig:
    """The config with the head that the weights had where they come from, and as many classes."""
    config = replace(config, head=layout.head(config.head))
    return replace(config, num_classes=num_classes_of(weights, layout, config))
