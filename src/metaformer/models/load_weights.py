"""Weights into a model, whatever names they came under, with a report of what was done to them."""

from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metaformer.block.site import Grid
from metaformer.core.errors import ConfigError
from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts import Layout, recognise
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights, read_weights

CLASSIFIER = "head.fc."
FIRST_CONV = "stages.0.patch_embed.conv.weight"


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of the weights."""

    source: str
    layout: str  # whose names for the tensors the file uses
    matched: list[str] = field(default_factory=list)  # loaded as they are
    resized: dict[str, str] = field(default_factory=dict)  # loaded after a change: name -> what changed
    missing: list[str] = field(default_factory=list)  # in the model, not in the file: still at their first values
    unexpected: list[str] = field(default_factory=list)  # in the file, not in the model; by the file's names
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [
            ("source", self.source),
            ("layout", self.layout),
            ("matched", f"{len(self.matched)} tensors as they are"),
            *((f"resized {name}", change) for name, change in self.resized.items()),
            *(("missing", name) for name in self.missing),
            *(("unexpected", name) for name in self.unexpected),
            *(("note", note) for note in self.notes),
        ]
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{what:{width}}  {text}" for what, text in rows)


def load_weights(model: MetaFormer, source: str | Path | Weights, *, strict: bool = True) -> LoadReport:
    """Loads weights into a model: ours, or those of any layout in LAYOUTS, recognised by their keys.

    Weights tied to a grid are resized to the model's; a first convolution for other channels is adapted. A classifier
    for another number of classes is left out: it is reported as missing, and the model keeps its own.

    Args:
        model: Changed in place, and only if nothing is wrong.
        source: A file, run folder, URL or hub id, or weights already read.
        strict: Refuse tensors that are missing or unexpected, a replaced classifier apart.

    Raises:
        DataError: The file cannot be read.
        ConfigError: The weights do not fit the model.
    """
    weights = source if isinstance(source, Weights) else read_weights(source, like=model.config)
    layout = recognise(weights.state, weights.source)
    target = model.state_dict()
    names = layout.keys(list(target), model.config)
    state = {ours: weights.state[theirs] for ours, theirs in names.items() if theirs in weights.state}
    used = {names[ours] for ours in state}
    notes = [*weights.notes, *_head_note(model.config, layout)]
    resized = _adapt_shapes(state, target) | _resize_tied(model, state, weights.config)
    classifier = [name for name in target if name.startswith(CLASSIFIER)]
    replaced = [name for name in classifier if name in state and state[name].shape != target[name].shape]
    made_anew = classifier if weights.config and not weights.config.num_classes else replaced
    if replaced:
        notes.append(f"classifier of {len(state[replaced[0]])} classes left out; the model has its own, untrained")
    for name in replaced:
        del state[name]
    report = LoadReport(
        source=weights.source,
        layout=layout.name,
        matched=[name for name in target if name in state and name not in resized],
        resized=resized,
        missing=[name for name in target if name not in state],
        unexpected=[name for name in weights.state if name not in used],
        notes=notes,
    )
    # A model without a classifier has no use for the file's.
    theirs = {layout.key(f"{CLASSIFIER}{part}", model.config) for part in ("weight", "bias")}
    _refuse_mismatch(report, state, target, {*made_anew, *(theirs if not classifier else ())}, strict)
    model.load_state_dict(state, strict=False)
    return report


def _refuse_mismatch(
    report: LoadReport, state: dict[str, Tensor], target: dict[str, Tensor], excused: set[Any], strict: bool
) -> None:
    for name in (*report.matched, *report.resized):
        if state[name].shape != target[name].shape:
            raise ConfigError(
                f"the weights of {report.source} do not fit the model: {name} is {_shape(state[name])} there and "
                f"{_shape(target[name])} here. Create the model that they come from."
            )
    wrong = [f"missing {name}" for name in report.missing if name not in excused]
    wrong += [f"unexpected {name}" for name in report.unexpected if name not in excused]
    if strict and wrong:
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise ConfigError(
            f"the weights of {report.source} do not fit the model: {shown}. "
            "Create the model that they come from, or pass strict=False to load what fits."
        )


def _head_note(config: MetaFormerConfig, layout: Layout) -> list[str]:
    if layout.head(config.head) == config.head:
        return []
    return [
        f"{layout.name} computes its head otherwise for the same weights; "
        f"create_model(..., weights=...) builds the model with the head of {layout.name}"
    ]


def _adapt_shapes(state: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, str]:
    """Linear layers to 1x1 convolutions and back, in place; the first convolution to the model's channels."""
    notes = {}
    for name, tensor in state.items():
        wanted = target[name].shape
        if tensor.shape != wanted and _without_ones(tensor) == _without_ones(target[name]):
            state[name] = tensor.reshape(wanted)
        elif name == FIRST_CONV and tensor.ndim == 4 and tensor.shape[1] != wanted[1]:
            state[name] = _adapt_channels(tensor, wanted[1])
            notes[name] = f"{tensor.shape[1]} channels to {wanted[1]}"
    return notes


def _adapt_channels(weight: Tensor, in_chans: int) -> Tensor:
    """The first convolution for another number of channels, as timm adapts it.

    One channel gets the sum, so that a grey image gives what it gave before; more channels repeat the given ones in
    turn, scaled by old / new.
    """
    old = weight.shape[1]
    if in_chans == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight.repeat(1, -(-in_chans // old), 1, 1)[:, :in_chans] * (old / in_chans)


def _without_ones(tensor: Tensor) -> list[int]:
    return [side for side in tensor.shape if side != 1]


def _resize_tied(model: MetaFormer, state: dict[str, Tensor], source: MetaFormerConfig | None) -> dict[str, str]:
    """Moves everything that is tied to a grid to the model's grid, in place; returns a note on each change."""
    notes = {}
    for path, module in tied_modules(model):
        # Everything tied to a grid sits inside a stage: stages.<stage>.<...>
        stage = int(path.split(".")[1])
        own = {name: state[f"{path}.{name}"] for name in module.state_dict() if f"{path}.{name}" in state}
        if len(own) < len(module.state_dict()):
            continue
        new_grid = model.config.grids[stage]
        old_grid = _old_grid(own, stage, new_grid, source)
        if old_grid == new_grid:
            continue
        for name, tensor in module.resize(own, old_grid, new_grid).items():
            state[f"{path}.{name}"] = tensor
            notes[f"{path}.{name}"] = f"grid {_grid(old_grid)} to {_grid(new_grid)}"
    return notes


def tied_modules(module: nn.Module) -> list[tuple[str, Any]]:
    """The modules inside that are tied to their grid and can move their weights to another."""
    return [(path, inner) for path, inner in module.named_modules() if callable(getattr(inner, "resize", None))]


def _old_grid(own: dict[str, Tensor], stage: int, new_grid: Grid, config: MetaFormerConfig | None) -> Grid:
    """The grid that weights were made for: as their config says, or read from a shape and taken to be square."""
    if config is not None:
        return config.grids[stage]
    largest = max(own.values(), key=lambda tensor: tensor.ndim)
    if largest.ndim == 4:
        return largest.shape[2], largest.shape[3]
    num_tokens = largest.shape[-1]
    if num_tokens == new_grid[0] * new_grid[1]:
        return new_grid
    side = isqrt(num_tokens)
    if side * side != num_tokens:
        raise ConfigError(
            f"weights for {num_tokens} tokens do not say which grid they are for, and {num_tokens} is no square. "
            "Create the model with the image_size they were trained at."
        )
    return side, side


def _grid(grid: Grid) -> str:
    return f"{grid[0]}x{grid[1]}"


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a scalar"
