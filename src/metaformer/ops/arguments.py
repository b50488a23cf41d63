"""The arguments of an operator, a frozen dataclass: weights, which are tensors or None, and settings, which are not."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from torch import Tensor

# Features, and mean and variance of each sample or None.
Features = tuple[Tensor, Tensor | None]


def with_weights(op: Any, change: Callable[[Tensor], Tensor], *names: str) -> dict[str, Any]:
    """All fields by name, with the weights of these names changed; all weights where none is named."""
    named = {field.name: getattr(op, field.name) for field in fields(op)}
    chosen = names or tuple(named)
    return named | {name: change(named[name]) for name in chosen if isinstance(named[name], Tensor)}


def settings_of(op: Any) -> dict[str, Any]:
    """The fields that are no weights."""
    named = {field.name: getattr(op, field.name) for field in fields(op)}
    return {name: value for name, value in named.items() if not isinstance(value, Tensor) and value is not None}


def as_floats(weight: Tensor) -> Tensor:
    """Contiguous float32 without a history."""
    return weight.detach().float().contiguous()
