"""What a run must share with the state that it goes on from."""

from typing import Any

from torch import nn

from metaformer.core.configs import to_dict
from metaformer.data.source import DataSource
from metaformer.train.config import TrainConfig


def run_settings(
    model: nn.Module, data: DataSource, config: TrainConfig, *, seed: int, more: dict[str, Any]
) -> dict[str, Any]:
    """All that decides the result, as plain values; `more` is what the caller alone knows."""
    architecture = to_dict(model.config) if hasattr(model, "config") else None
    facts = data.facts
    described = {"name": facts.name, "num_train": facts.num_train, "class_names": list(facts.class_names)}
    return more | {"model": architecture, "data": described, "train": to_dict(config), "seed": seed}


def first_difference(there: Any, here: Any, path: str = "") -> str:
    """The first setting that differs, as `train.epochs: 20 there, 5 here`."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(key for key in here if key not in there)]:
            if there.get(key) != here.get(key):
                return first_difference(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
    if isinstance(there, list | tuple) and isinstance(here, list | tuple) and len(there) == len(here):
        for i, (old, new) in enumerate(zip(there, here, strict=True)):
            if old != new:
                return first_difference(old, new, f"{path}[{i}]")
    return f"{path}: {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
