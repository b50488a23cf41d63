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
