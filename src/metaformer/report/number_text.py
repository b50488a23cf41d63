"""Numbers as a reader wants them: few digits, a true minus sign, and the same everywhere."""

import base64
import binascii

MINUS = "\N{MINUS SIGN}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def plain(value: float | int, digits: int = 1) -> str:
    """With a true minus sign, and never "-0.0"."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | int, digits: int = 1) -> str:
    """With its sign, except for zero."""
    text = plain(value, digits)
    return text if value <= 0 or float(text) == 0 else f"+{text}"


def digits_for(half_width: float | None) -> int:
    """One digit, or two where the uncertainty would round to less than 0.1."""
    return 1 if half_width is None or half_width >= 0.095 else 2


def with_half_width(value: float, half_width: float | None, *, sign: bool = False) -> str:
    """A value and half of its interval, as in 81.3 +- 0.4; only the value where there is no interval."""
    digits = digits_for(half_width)
    text = (signed if sign else plain)(value, digits)
    return text if half_width is None else f"{text} {PLUS_MINUS} {half_width:.{digits}f}"


def count(value: float | int) -> str:
    """A large count with three significant digits: 11.9 M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,950 is written 1.00 M, not 1000 k.
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.{2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0}f} {unit}"
    return f"{value:.0f}"


def seconds(value: float | int) -> str:
    """A duration, as in 3 min 20 s."""
    whole = round(value)
    if whole < 60:
        return f"{value:.1f} s" if value < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def listed(words: list[str]) -> str:
    """As in "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def cell(value: float | int, digits: int = 4) -> str:
    """A number with so many significant digits, in a table."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}".replace("-", MINUS)
    text = f"{value:,.0f}" if 10**digits <= abs(value) < 1e9 else f"{value:.{digits}g}"
    return text.replace("-", MINUS) if "e" not in text else text


PNG = b"\x89PNG\r\n\x1a\n"


def is_png(encoded: str) -> bool:
    """Whether base64 holds a PNG, and nothing that a page would take for markup."""
    try:
        return base64.b64decode(encoded, validate=True).startswith(PNG)
    except (binascii.Error, ValueError):
        return False
