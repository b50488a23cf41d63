"""Finds the weights inside what a training script saved: in containers, behind prefixes, in whole pickled models."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from metaformer.core.errors import DataError, shown
from metaformer.models.layouts import LAYOUTS
from metaformer.models.weights.inert import Inert, is_tensor
from metaformer.models.weights.tensors import check_tensors

DEEPEST = 8
# Words in the way to weights -> which are taken first, as timm reads its own checkpoints: averaged weights, then the
# teacher of a distillation, then whatever has no name of those, then the student.
FIRST = re.compile(r"ema|average|averaged|avg|swa", re.IGNORECASE)
# Without the part that our names of the layout begin with: what to put in front of every key.
HUGGINGFACE_BARE = "encoder.patch_embeddings.0.projection.weight"


@dataclass(frozen=True, kw_only=True)
class Found:
    """One set of weights inside a file."""

    way: tuple[str, ...]  # of containers
    prefix: str  # in front of every key
    state: dict[str, Any]
    left_out: tuple[str, ...] = ()  # tensors without that prefix

    @property
    def rank(self) -> int:
        """The lower, the rather it is taken."""
        words = [word for word in re.split(r"[._]", ".".join((*self.way, self.prefix))) if word]
        if any(FIRST.fullmatch(word) for word in words):
            return 0
        return 1 if "teacher" in words else 3 if "student" in words else 2

    @property
    def name(self) -> str:
        """How a message calls it."""
        place = ".".join(self.way)
        return " ".join(repr(part) for part in (place, self.prefix) if part) or "the bare weights"


def unwrap(loaded: Any, path: Path) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The weights inside what a training script saved.

    Returns:
        The state dict; notes on how it was wrapped; and what the caller may not expect: which of several was taken.

    Raises:
        DataError: There is none, or a tensor is of a kind that weights are not.
    """
    mappings = list(_mappings(loaded))
    found = [one for way, state in mappings for one in _recognised(way, state)]
    if not mappings:
        raise DataError(_without_weights(loaded, path))
    if not found:
        # Whoever asks for the layout says what the largest holds.
        way, state = max(mappings, key=lambda mapping: len(mapping[1]))
        found = [Found(way=way, prefix="", state=state)]
    taken = min(found, key=lambda one: one.rank)
    notes = []
    if taken.way:
        notes.append(f"read from {'.'.join(taken.way)!r}")
    if taken.prefix:
        notes.append(f"prefix {taken.prefix!r} removed")
    others = [one.name for one in found if one is not taken]
    doubts = []
    if others:
        shown = ", ".join(others[:3]) + (" and more" if len(others) > 3 else "")
        doubts.append(f"took {taken.name} of several weights in the file; the others: {shown}")
    elif taken.left_out:
        more = " and more" if len(taken.left_out) > 3 else ""
        doubts.append(f"left out what is not behind {taken.prefix!r}: {', '.join(taken.left_out[:3])}{more}")
    return check_tensors(taken.state, path), notes, doubts


def _mappings(loaded: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dict of tensors inside, with the way to it, outermost first; no dict twice."""
    queue: list[tuple[tuple[str, ...], Any]] = [((), loaded)]
    seen = set()
    for way, value in queue:
        if id(value) in seen or len(way) > DEEPEST:
            continue
        seen.add(id(value))
        if isinstance(value, Inert) and (tensors := _of_module(value)):
            yield way, tensors
            continue
        entries = _entries(value)
        # An optimizer numbers its parameters, and averages of their gradients are no weights.
        tensors = {key: one for key, one in entries.items() if is_tensor(one)}
        if tensors:
            yield way, tensors
        queue += [((*way, key), one) for key, one in entries.items() if isinstance(one, dict | Inert)]


def _entries(value: Any) -> dict[str, Any]:
    entries: Any = value
    if isinstance(value, Inert):
        entries = value.entries or value.state
    return {key: one for key, one in entries.items() if isinstance(key, str)} if isinstance(entries, dict) else {}


def _of_module(module: Inert) -> dict[str, Any]:
    """The state dict of a whole model that was pickled, from what the file says of its parts."""
    tensors: dict[str, Any] = {}
    queue: list[tuple[str, Any]] = [("", module)]
    seen = set()
    for prefix, part in queue:
        facts = part.state if isinstance(part, Inert) else None
        if not isinstance(facts, dict) or not isinstance(facts.get("_parameters"), dict) or id(part) in seen:
            continue
        seen.add(id(part))
        left = facts.get("_non_persistent_buffers_set")
        passing = left if isinstance(left, set) else {name for names in getattr(left, "args", ()) for name in names}
        own = facts["_parameters"] | _entries(facts.get("_buffers"))
        tensors |= {f"{prefix}{name}": one for name, one in own.items() if is_tensor(one) and name not in passing}
        queue += [(f"{prefix}{name}.", inner) for name, inner in _entries(facts.get("_modules")).items()]
    return tensors


def _recognised(way: tuple[str, ...], state: dict[str, Any]) -> Iterator[Found]:
    """The weights in a dict: one for every prefix behind which a layout is recognised."""
    prefixes: dict[str, str] = {}
    for layout_name, layout in LAYOUTS.items():
        for key in state:
            prefix = key.removesuffix(layout.marker)
            if prefix != key and (not prefix or prefix.endswith(".")):
                prefixes[prefix] = layout_name
    bare = [key.removesuffix(HUGGINGFACE_BARE) for key in state if key.endswith(HUGGINGFACE_BARE)]
    added = {prefix: "poolformer." for prefix in bare if prefix[-11:] != "poolformer."}
    for prefix in sorted({**prefixes, **added}, key=len):
        # mmpretrain's own names begin with what others put in front of theirs.
        outer = prefix.removesuffix("backbone.")
        if outer != prefix and prefixes.get(outer) == "mmpretrain":
            if f"{prefix}norm.weight" not in state and f"{prefix}head.weight" not in state:
                continue
        elif prefixes.get(prefix) == "mmpretrain" and f"{prefix}backbone.norm.weight" in state:
            continue
        inner = {key.removeprefix(prefix): one for key, one in state.items() if key.startswith(prefix)}
        outside = tuple(key for key in state if not key.startswith(prefix))
        yield Found(way=way, prefix=prefix, state=_canonical(inner, added.get(prefix, "")), left_out=outside)


def _canonical(state: dict[str, Any], added: str) -> dict[str, Any]:
    """Keys of a backbone alone as they are called where it is part of a classifier."""
    if added:
        return {f"{added}{key}": one for key, one in state.items()}
    if "stem.conv.weight" in state:
        # A backbone of features in timm.
        return {re.sub(r"^stages_(\d)\.", r"stages.\1.", key): one for key, one in state.items()}
    if "patch_embed.proj.weight" in state and "norm.weight" not in state and any(map(NUMBERED_NORM, state)):
        return {f"backbone.{key}": one for key, one in state.items()}
    return state


NUMBERED_NORM = re.compile(r"norm\d\.weight").fullmatch


def _without_weights(loaded: Any, path: Path) -> str:
    classes = sorted({one.name for one in [loaded, *_entries(loaded).values()] if isinstance(one, Inert)})
    what = f" (it holds {shown(', '.join(classes[:3]), 120)[1:-1]})" if classes else ""
    return (
        f"{path} holds no weights{what}: expected a dict of tensors, bare or in a dict under any name. "
        "Save it anew where it was made: torch.save(model.state_dict(), FILE)."
    )
