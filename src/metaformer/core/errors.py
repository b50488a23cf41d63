"""The user's mistakes, each a sentence that names the setting, what was given, what is allowed and the fix."""

import difflib
from collections.abc import Iterable
from os.path import commonprefix


class ConfigError(ValueError):
    """A setting has a value that cannot work."""


class ShapeError(ValueError):
    """A tensor has a shape that the module it was given to cannot take."""


class DataError(ValueError):
    """A file or folder cannot be read as what it should be."""


class MissingExtraError(ImportError):
    """An optional part of the package is needed and not installed."""

    def __init__(self, *, need: str, extra: str) -> None:
        super().__init__(f"{need} needs the extra '{extra}'. Install it: pip install 'metaformer[{extra}]'")


def one_line(error: BaseException, most: int | None = None) -> str:
    """What an error says, without line breaks, at most so many characters; its class where it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__)[:most]


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its class where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def shown(value: object, most: int = 60) -> str:
    """A value in a message: as Python writes it, but short, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {int(value.bit_length() * 0.30103) + 1:,} digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known name, or nothing if none is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if not near:
        return ""

    # Of names that are equally near, the one that begins alike.
    def nearness(one: str) -> tuple[float, int]:
        return difflib.SequenceMatcher(None, one, name).ratio(), len(commonprefix([one, name]))  # noqa: RUF071 (no paths)

    best = max(near, key=nearness)
    return f" Did you mean {best!r}?"


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a table: says which is nearest and which exist."""
    names = list(known)
    return ConfigError(f"unknown {kind} {shown(name)}.{did_you_mean(name, names)} Known: {', '.join(names)}.")


class StoppedError(RuntimeError):
    """A job that was asked for rightly had to stop; says why, and what is saved. Not a mistake of the request."""
