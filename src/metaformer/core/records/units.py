"""What a number in a record may be, by the unit that ends its name."""

from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

from metaformer.core.errors import ConfigError

# No count, time, size or loss of a real measurement is larger; sums and squares of smaller ones stay finite.
LARGEST = 1e30
NOT_BELOW_ZERO = ("_percent", "_ms", "_s", "_mib", "_px", "_per_second", "_gflops", "seconds")
COUNTS = ("num_", "batch_size", "params", "frozen", "macs", "best_epoch", "epoch", "rounds", "seeds", "dim")


def check_numbers(value: Any, place: str) -> None:
    """Looks through a result for numbers that nobody can have measured.

    Raises:
        ConfigError: One is not finite, beyond all bounds, negative where its unit has no negative values, or a
            percentage above 100.
    """
    if is_dataclass(value):
        for one in fields(value):
            check_numbers(getattr(value, one.name), f"{place}.{one.name}")
    elif isinstance(value, tuple | list):
        for item in value:
            check_numbers(item, place)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check(value, place)


def _check(value: float | int, place: str) -> None:
    name = place.rpartition(".")[2]
    # A whole number may be too large even to be turned into a float.
    if (isinstance(value, float) and not isfinite(value)) or abs(value) > LARGEST:
        raise ConfigError(f"{place} must be at most {LARGEST:g}, and finite.")
    shown = f"{value:.6g}"
    if value < 0 and (name.endswith(NOT_BELOW_ZERO) or name.startswith(COUNTS)):
        raise ConfigError(f"{place} must be at least 0; got {shown}.")
    # Shares of a peak may pass 100 a little, where the peak was measured too low.
    if value > 100 and name.endswith("_percent") and "spread" not in name and "peak" not in name:
        raise ConfigError(f"{place} must be at most 100; got {shown}.")
