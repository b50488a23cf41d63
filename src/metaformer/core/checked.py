"""Numbers in configs, checked where they are written: kind, bounds, and that they are numbers at all."""

import math
from numbers import Integral, Real
from typing import Any

from metaformer.core.errors import ConfigError, shown

MOST_THREADS = 1024  # of one process; each of more would only wait
# Wide enough for any model and any training, and small enough that nothing is allocated or counted for hours.
MOST = 10**9


def check_number(
    config: object,
    name: str,
    *,
    whole: bool = False,
    many: bool = False,
    optional: bool = False,
    least: int | float | None = None,
    above: int | float | None = None,
    most: int | float = MOST,
    below: int | float | None = None,
    hint: str = "",
    group: str = "",
) -> None:
    """Checks a field of a frozen config that is a number, several numbers, or None.

    A number of another library becomes Python's own, so that the config can be written as JSON; a list becomes a tuple.

    Args:
        config: Whose field; changed only in the number's type.
        name: Of the field.
        whole: Whether it must be a whole number.
        many: Whether it is a list of numbers.
        optional: Whether it may be None.
        least: The smallest that is allowed.
        above: What it must be above.
        most: The largest that is allowed.
        below: What it must be below.
        hint: What to do instead, a sentence; ends the message.
        group: What the command line calls the config, as in train.lr; its class where nothing is given.

    Raises:
        ConfigError: It is no number, not a finite one, or out of bounds.
    """
    value = getattr(config, name)
    place = f"{group or type(config).__name__}.{name}"
    bounds = {"least": least, "above": above, "most": most, "below": below, "optional": optional}
    if value is None and optional:
        return
    if many:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{place} must be a list of numbers; got {shown(value)}.")
        checked: Any = tuple(_checked(one, f"{place}[{i}]", whole, bounds, hint) for i, one in enumerate(value))
    else:
        checked = _checked(value, place, whole, bounds, hint)
    object.__setattr__(config, name, checked)


def check_count(value: int, name: str, *, least: int = 1, most: int = MOST) -> None:
    """Checks an argument of a function that counts something: images of a batch, threads, rounds.

    Raises:
        ConfigError: It is no whole number within the bounds.
    """
    _checked(value, name, True, {"least": least, "above": None, "most": most, "below": None}, "")


def check_share(config: object, name: str) -> None:
    """Checks a field that is a rate: 0 or more, and below 1."""
    check_number(config, name, least=0, below=1)


def check_window(config: object, name: str) -> None:
    """Checks a field that is the side of a window around a token: odd, so that the output keeps the grid."""
    check_number(config, name, whole=True, least=-MOST, most=10_001)
    value = getattr(config, name)
    if value < 1 or value % 2 == 0:
        raise ConfigError(
            f"{type(config).__name__}.{name} must be odd and positive, so that the output keeps the grid; "
            f"got {value}. Try {max(1, value + 1 - value % 2)}."
        )


def _checked(value: Any, place: str, whole: bool, bounds: dict[str, Any], hint: str) -> int | float:
    kinds: Any = Integral if whole else Real
    hint = f" {hint}" if hint else ""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ConfigError(f"{place} must be a {'whole ' if whole else ''}number; got {shown(value)}.{hint}")
    number: int | float = int(value) if isinstance(value, Integral) else float(value)
    if isinstance(number, float) and not math.isfinite(number):
        raise ConfigError(f"{place} must be a finite number; got {value}.{hint}")
    least, above, most, below = bounds["least"], bounds["above"], bounds["most"], bounds["below"]
    or_none = ", or None" if bounds.get("optional") else ""
    too_low = (least is not None and number < least) or (above is not None and number <= above)
    too_high = (most is not None and number > most) or (below is not None and number >= below)
    if too_low or too_high:
        raise ConfigError(f"{place} must be {_words(bounds, too_low=too_low)}{or_none}; got {shown(value)}.{hint}")
    return number


def _words(bounds: dict[str, Any], *, too_low: bool) -> str:
    least, above, most, below = bounds["least"], bounds["above"], bounds["most"], bounds["below"]
    if least is not None and below is not None:
        return f"in [{least:g}, {below:g})"
    if least is not None and most is not None and most <= 1:
        return f"in [{least:g}, {most:g}]"
    if above is not None and most is not None and most <= 1:
        return f"in ({above:g}, {most:g}]"
    if too_low:
        return f"at least {least:g}" if least is not None else f"above {above:g}"
    return f"below {below:g}" if below is not None else f"at most {most:,.10g}"
