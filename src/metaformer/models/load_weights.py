"""Weights into a model, whatever names they came under, with a report of what was done to them."""

from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metaformer.block.site import Grid, format_grid
from metaformer.core.errors import ConfigError
from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts import Layout, recognise
from metaformer.models.metaformer import MetaFormer
from metaformer.models.same_function import differences
from metaformer.models.weights import Weights, read_weights
from metaformer.models.weights.tensors import describe_shape

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
    doubts: list[str] = field(default_factory=list)  # what the caller may not expect

    def __str__(self) -> str:
        rows = [
            ("source", self.source),
            ("layout", self.layout),
            ("matched", f"{len(self.matched)} tensors as they are"),
            *((f"resized {name}", change) for name, change in self.resized.items()),
            *(("missing", name) for name in self.missing),
            *(("unexpected", name) for name in self.unexpected),
            *(("note", note) for note in self.notes),
            *(("WARNING", doubt) for doubt in self.doubts),
        ]
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{what:{width}}  {text}" for what, text in rows)


def load_weights(model: MetaFormer, source: str | Path | Weights, *, strict: bool = True) -> LoadReport:
    """Loads weights into a model: ours, or those of any layout in LAYOUTS, recognised by their keys.

    Weights tied to a grid are resized to the model's; a first convolution for other channels is adapted. A classifier
    for another number of classes is left out, and a backbone may come without its head: both are reported as missing,
    and the model keeps its own. Where a file says which model it is of, what has no weights is compared too: the
    window of a pooling, an activation, a skip connection.

    Args:
        model: Changed in place, and only if nothing is wrong.
        source: A file, run folder, URL or hub id, or weights already read.
        strict: Refuse tensors that are missing or unexpected, a head of the model's own apart, and weights of a model
            that computes something else; else these are reported.

    Raises:
        DataError: The file cannot be read.
        ConfigError: The weights do not fit the model.
    """
    weights = source if isinstance(source, Weights) else read_weights(source, like=model.config)
    doubts = [*weights.doubts]
    if weights.config and (other := differences(weights.config, model.config)):
        if strict:
            raise other_function(weights, other)
        doubts.append(f"the weights are of a model that computes something else: {'; '.join(other)}")
    layout = recognise(weights.state, weights.source)
    weights = replace(weights, state=layout.unpack(weights.state))
    target = model.state_dict()
    names = layout.keys(list(target), model.config)
    state = {ours: weights.state[theirs] for ours, theirs in names.items() if theirs in weights.state}
    used = {names[ours] for ours in state}
    notes = [*weights.notes]
    doubts += _head_doubt(model.config, layout)
    _refuse_other_numbers(weights.source, state, target)
    resized = _adapt_shapes(state, target) | _resize_tied(model, state, weights.config)
    classifier = [name for name in target if name.startswith(CLASSIFIER)]
    replaced = [name for name in classifier if name in state] if _is_for_other_classes(state, target) else []
    excused = set(replaced)
    if not any(name in state for name in classifier):
        # A backbone may end before its last norm, before a hidden layer, or before the classifier.
        excused = {name for name in target if name.startswith(("norm.", "head.")) and name not in state}
        untrained = [name for name in excused if name not in classifier]
        if untrained:
            doubts.append(f"not in the file and untrained: {', '.join(sorted(untrained))}")
        if classifier:
            notes.append("no classifier in the file; the model has its own, untrained")
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
        doubts=doubts,
    )
    # A model without a classifier has no use for the file's.
    theirs = {layout.key(f"{CLASSIFIER}{part}", model.config) for part in ("weight", "bias")}
    _refuse_mismatch(report, state, target, {*excused, *(theirs if not classifier else ())}, strict)
    report.doubts.extend(_not_finite(weights.source, state, target))
    model.load_state_dict(state, strict=False)
    return report


def num_classes_of(weights: Weights, layout: Layout, config: MetaFormerConfig) -> int:
    """How many classes the weights' classifier has; 0 where there is none.

    Raises:
        ConfigError: It is no matrix.
    """
    name = layout.key(f"{CLASSIFIER}weight", config) or ""
    classifier = weights.state.get(name)
    if classifier is None:
        return 0
    if len(_without_last_ones(classifier)) > 2 or classifier.ndim < 2:
        raise ConfigError(
            f"the weights of {weights.source} do not fit the model: the classifier {name} is "
            f"{describe_shape(classifier)}, and should be classes x channels."
        )
    return classifier.shape[0]


def _refuse_mismatch(
    report: LoadReport, state: dict[str, Tensor], target: dict[str, Tensor], excused: set[Any], strict: bool
) -> None:
    for name in (*report.matched, *report.resized):
        if state[name].shape != target[name].shape:
            raise ConfigError(
                f"the weights of {report.source} do not fit the model: {name} is {describe_shape(state[name])} there "
                f"and {describe_shape(target[name])} here. Create the model that they come from."
            )
    wrong = [f"missing {name}" for name in report.missing if name not in excused]
    wrong += [f"unexpected {name}" for name in report.unexpected if name not in excused]
    if strict and wrong:
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise ConfigError(
            f"the weights of {report.source} do not fit the model: {shown}. Create the model that they come from."
        )


def _is_for_other_classes(state: dict[str, Tensor], target: dict[str, Tensor]) -> bool:
    """Whether the weights' classifier differs in the number of classes, and in nothing else."""
    name = f"{CLASSIFIER}weight"
    if name not in state or name not in target:
        return False
    shape, wanted = state[name].shape, target[name].shape
    return shape[:1] != wanted[:1] and shape[1:] == wanted[1:]


def other_function(weights: Weights, other: list[str]) -> ConfigError:
    """The error for weights of a model that differs in parts without weights."""
    shown = "; ".join(other[:3]) + (f"; and {len(other) - 3} more" if len(other) > 3 else "")
    return ConfigError(
        f"the weights of {weights.source} are of a model that computes something else: {shown}. "
        "Create the model that they come from."
    )


def _refuse_other_numbers(source: str, state: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    """Whole numbers where the model has real ones are weights that somebody quantised, without their scale."""
    for name, tensor in state.items():
        if tensor.is_floating_point() != target[name].is_floating_point():
            kinds = [str(one.dtype).removeprefix("torch.") for one in (tensor, target[name])]
            raise ConfigError(
                f"the weights of {source} do not fit the model: {name} is of {kinds[0]} there and of {kinds[1]} here. "
                "Save them as real numbers."
            )


def _not_finite(source: str, state: dict[str, Tensor], target: dict[str, Tensor]) -> list[str]:
    """Says which tensors hold NaN or infinity, and refuses numbers that the model's precision turns into infinity."""
    broken = []
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.to(target[name].dtype).isfinite().all():
            if tensor.isfinite().all():
                raise ConfigError(
                    f"the weights of {source} do not fit the model: {name} has numbers that are infinite in "
                    f"{str(target[name].dtype).removeprefix('torch.')}."
                )
            broken.append(name)
    more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
    return [f"NaN or infinity in {broken[0]}{more}: the model's scores will be that too"] if broken else []


def _head_doubt(config: MetaFormerConfig, layout: Layout) -> list[str]:
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
        if tensor.shape != wanted and _without_last_ones(tensor) == _without_last_ones(target[name]):
            state[name] = tensor.reshape(wanted)
        elif name == FIRST_CONV and tensor.ndim == len(wanted) and tensor.shape[1] != wanted[1]:
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
    return weight.repeat(1, -(-in_chans // old), *(1,) * (weight.ndim - 2))[:, :in_chans] * (old / in_chans)


def _without_last_ones(tensor: Tensor) -> tuple[int, ...]:
    """A shape without the sides that only say that a window is of one token."""
    shape = tuple(tensor.shape)
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _resize_tied(model: MetaFormer, state: dict[str, Tensor], source: MetaFormerConfig | None) -> dict[str, str]:
    """Moves everything that is tied to a grid to the model's grid, in place; returns a note on each change."""
    notes = {}
    for path, module in tied_modules(model):
        # Everything tied to a grid sits inside a stage: stages.<stage>.<...>
        stage = int(path.split(".")[1])
        own = {name: state[f"{path}.{name}"] for name in module.state_dict() if f"{path}.{name}" in state}
        if len(own) < len(module.state_dict()):
            continue
        new_grid = module.grid
        old_grid = _old_grid(own, new_grid, _source_grid(source, path, stage))
        if old_grid == new_grid:
            # A map may come with its tokens in a row.
            for name, tensor in module.state_dict().items():
                if own[name].numel() == tensor.numel():
                    state[f"{path}.{name}"] = own[name].reshape(tensor.shape)
            continue
        for name, tensor in module.resize(own, old_grid, new_grid).items():
            state[f"{path}.{name}"] = tensor
            notes[f"{path}.{name}"] = f"grid {format_grid(old_grid)} to {format_grid(new_grid)}"
    return notes


def tied_modules(module: nn.Module) -> list[tuple[str, Any]]:
    """The modules inside that are tied to their grid and can move their weights to another."""
    return [(path, inner) for path, inner in module.named_modules() if callable(getattr(inner, "resize", None))]


def _source_grid(config: MetaFormerConfig | None, path: str, stage: int) -> Grid | None:
    """The grid that a module had in the model of this config: a class token comes behind the position embedding."""
    if config is None:
        return None
    return (config.patch_grids if path.endswith(".position_embed") else config.grids)[stage]


def _old_grid(own: dict[str, Tensor], new_grid: Grid, stated: Grid | None) -> Grid:
    """The grid that weights were made for: as their config says, or read from a shape and taken to be square."""
    if stated is not None:
        return stated
    # The first of those with most axes: of a token mixer it is the layer that reads the tokens.
    largest = max(own.values(), key=lambda tensor: tensor.ndim)
    if largest.ndim == 2 + len(new_grid):
        return tuple(largest.shape[2:])
    num_tokens = largest.shape[-1]
    if num_tokens == prod(new_grid):
        return new_grid
    side = round(num_tokens ** (1 / len(new_grid)))
    if side ** len(new_grid) != num_tokens:
        raise ConfigError(
            f"weights for {num_tokens} tokens do not say which grid they are for, and {num_tokens} is no square. "
            "Create the model with the image_size they were trained at."
        )
    return (side,) * len(new_grid)
