"""What was decided while data were opened: typed, so that it travels with them and is printed in one place."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Note:
    """One thing that the user did not ask for: a choice between two readings, or something left out."""

    text: str  # a sentence
    count: int  # images, files or folders that it is about

    def __str__(self) -> str:
        return self.text


def counted(number: int, thing: str, things: str = "") -> str:
    """`1 image`, `1,200 images`."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def some(names: Iterable[str], *, most: int = 4) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most + 1 else ""
    return ", ".join(listed[: most if rest else most + 1]) + rest
