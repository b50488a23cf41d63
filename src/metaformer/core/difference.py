"""Where two settings differ."""

from typing import Any


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
