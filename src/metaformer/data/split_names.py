"""What people call the parts of a data set."""

from collections.abc import Iterable

from metaformer.core.errors import ConfigError, did_you_mean

# Our name -> theirs. To evaluate, the first that is there is taken.
SPLIT_NAMES = {
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid", "eval", "dev"),
    "train": ("train", "training"),
}


def split_of(word: str) -> str | None:
    """Our name for a split, or None if the word names none."""
    return next((split for split, names in SPLIT_NAMES.items() if word.lower() in names), None)


def choose_split(found: Iterable[str], asked: str | None, *, where: str) -> str:
    """Which of the parts found to take: the one asked for, by any of its names; else test, validation, train.

    Raises:
        ConfigError: The part asked for is not there.
    """
    names = list(dict.fromkeys(found))
    if asked is None:
        order = list(SPLIT_NAMES)
        return min(names, key=lambda name: order.index(split_of(name) or "train"))
    for name in names:
        if name == asked or (split_of(name) and split_of(name) == split_of(asked)):
            return name
    known = f"It has: {', '.join(names)}." if names else "It has no splits: leave --split out."
    raise ConfigError(f"{where} has no split {asked!r}.{did_you_mean(asked, names)} {known}")
