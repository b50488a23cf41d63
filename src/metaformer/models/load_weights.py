"""Weights into a model, with a report of what was done to them."""

from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metaformer.block.site import Grid
from metaformer.core.errors import ConfigError
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights, read_weights

CLASSIFIER = "head.fc."


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of the weights."""

    source: str
    layout: str  # whose names for the tensors the file uses
    matched: list[str] = field(default_factory=list)  # loaded as they are
    resized: dict[str, str] = field(default_factory=dict)  # loaded after a change: name -> what changed
    missing: list[str] = field(default_factory=list)  # in the model, not in the file: still at their first values
    unexpected: list[str] = field(default_factory=list)  # in the file, not in the model

    def __str__(self) -> str:
        lines = [f"{self.source}: layout {self.layout}, {len(self.matched)} tensors as they are"]
        lines += [f"  resized {name}: {change}" for name, change in self.resized.items()]
        lines += [f"  missing {name}" for name in self.missing]
        lines += [f"  unexpected {name}" for name in self.unexpected]
        return "\n".join(lines)


def load_weights(model: MetaFormer, source: str | Path | Weights, *, strict: bool = True) -> LoadReport:
    """Loads weights into a model; those tied to a grid are resized to the model's.

    A classifier for another number of classes is left out, and the model keeps its own: the report names the tensors
    as missing, or as unexpected in a model without a classifier.

    Args:
        model: Changed in place, and only if nothing is wrong.
        source: A weights file, a run folder, or weights already read.
        strict: Refuse tensors that are missing or unexpected, a replaced classifier apart.

    Raises:
        DataError: The file cannot be read.
        ConfigError: The weights do not fit the model.
    """
    weights = source if isinstance(source, Weights) else read_weights(source, like=model.config)
    target = model.state_dict()
    state, resized = _resize_tied(model, weights)
    replaced = _replaced_classifier(model, weights, target)
    for name in replaced & target.keys():
        state.pop(name, None)
    report = LoadReport(
        source=weights.source,
        layout="metaformer",
        matched=[name for name in target if name in state and name not in resized],
        resized=resized,
        missing=[name for name in target if name not in state],
        unexpected=[name for name in state if name not in target],
    )
    _refuse_mismatch(report, state, target, replaced, strict)
    model.load_state_dict({name: tensor for name, tensor in state.items() if name in target}, strict=False)
    return report


def _replaced_classifier(model: MetaFormer, weights: Weights, target: dict[str, Tensor]) -> set[str]:
    """The tensors of both classifiers, if they are for different numbers of classes."""
    stored = weights.state.get(f"{CLASSIFIER}weight")
    num_classes = model.num_classes if weights.config is None else weights.config.num_classes
    if stored is not None:
        num_classes = stored.shape[0]
    if num_classes == model.num_classes:
        return set()
    return {name for name in (*weights.state, *target) if name.startswith(CLASSIFIER)}


def _refuse_mismatch(
    report: LoadReport, state: dict[str, Tensor], target: dict[str, Tensor], replaced: set[str], strict: bool
) -> None:
    for name in (*report.matched, *report.resized):
        if state[name].shape != target[name].shape:
            raise ConfigError(
                f"the weights of {report.source} do not fit the model: {name} is {_shape(state[name])} there and "
                f"{_shape(target[name])} here. Create the model that they come from."
            )
    wrong = [f"missing {name}" for name in report.missing if name not in replaced]
    wrong += [f"unexpected {name}" for name in report.unexpected if name not in replaced]
    if strict and wrong:
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise ConfigError(
            f"the weights of {report.source} do not fit the model: {shown}. "
            "Create the model that they come from, or pass strict=False to load what fits."
        )


def _resize_tied(model: MetaFormer, weights: Weights) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights with everything that is tied to a grid moved to the model's grid, and a note on each change."""
    state, notes = dict(weights.state), {}
    for path, module in tied_modules(model):
        # Everything tied to a grid sits inside a stage: stages.<stage>.<...>
        stage = int(path.split(".")[1])
        own = {name: state[f"{path}.{name}"] for name in module.state_dict() if f"{path}.{name}" in state}
        if len(own) < len(module.state_dict()):
            continue
        new_grid = model.config.grids[stage]
        old_grid = _old_grid(own, stage, new_grid, weights.config)
        if old_grid == new_grid:
            continue
        for name, tensor in module.resize(own, old_grid, new_grid).items():
            state[f"{path}.{name}"] = tensor
            notes[f"{path}.{name}"] = f"grid {_grid(old_grid)} to {_grid(new_grid)}"
    return state, notes


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
