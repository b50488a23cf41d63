"""`metaformer profile`: what one model costs, part by part."""

from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from metaformer.analysis.cost import Cost
from metaformer.analysis.cost import profile as measure
from metaformer.models.create import create_model
from metaformer.models.metaformer import MetaFormer


def profile(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    /,
    image_size: tuple[int, int] | None = None,
    in_chans: int | None = None,
    num_classes: int | None = None,
) -> int:
    """Counts the parameters and multiply-adds of a model, for one image.

    Args:
        name: A model of the zoo; see 'metaformer models'.
        image_size: Side, or height and width, in pixels; the model's own if not given.
        in_chans: Channels of the image.
        num_classes: Classes; 0 leaves out the classifier.
    """
    with torch.device("meta"):
        model = create_model(name, image_size=image_size, in_chans=in_chans, num_classes=num_classes)
    cost = measure(model, model.config.image_size)
    channels, height, width = cost.input_shape
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{name}, one image of {channels}x{height}x{width}\n")
    console.print(_parts(model, cost))
    console.print(
        f"\nparameters   {cost.params:>14,}   trained\n"
        f"frozen       {cost.frozen:>14,}   fixed numbers, as random matrices\n"
        f"MACs         {cost.macs:>14,}   multiply-adds\n"
        f"activations  {cost.activations:>14,}   elements written by convolutions and matrix products\n"
    )
    not_counted = ", ".join(f"{name} {elements / 1e6:.2f} M" for name, elements in cost.not_counted.items())
    console.print(f"not counted in MACs, elements written: {not_counted}")
    return 0


def _parts(model: MetaFormer, cost: Cost) -> Table:
    table = Table("part", "grid", box=None, pad_edge=False)
    for title in ("params", "MACs", "share"):
        table.add_column(title, justify="right")
    for path, grid in _rows(model):
        macs = cost.macs_under(path)
        params = sum(tensor.numel() for tensor in model.get_submodule(path).parameters())
        table.add_row(path, grid, f"{params:,}", f"{macs:,}", f"{100 * macs / max(1, cost.macs):.1f}%")
    return table


def _rows(model: MetaFormer) -> list[tuple[str, str]]:
    """Each stage's patch embedding and blocks, then the rest."""
    rows = []
    for stage, grid in enumerate(model.config.patch_grids):
        rows.append((f"stages.{stage}.patch_embed", "x".join(map(str, grid))))
        blocks = model.get_submodule(f"stages.{stage}.blocks")
        rows += [(f"stages.{stage}.blocks.{index}", "") for index in range(len(list(blocks.children())))]
    return [*rows, ("norm", ""), ("head", "")]
