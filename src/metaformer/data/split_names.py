"""What people call the parts of a data set."""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from metaformer.core.errors import ConfigError, DataError, did_you_mean
from metaformer.data.notes import Note, counted, some

# Our name -> theirs. To evaluate, the first that is there is taken.
SPLIT_NAMES = {
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid", "eval", "dev"),
    "train": ("train", "training"),
}
# Parts of a file's name that number it or say its format: 00000-of-00005, a checksum, .tar.gz.
SAYS_NOTHING = re.compile(r"of|[0-9a-f]*[0-9][0-9a-f]*|tar|t?gz|parquet")


def split_of(word: str) -> str | None:
    """Our name for a split, or None if the word names none."""
    return next((split for split, names in SPLIT_NAMES.items() if word.lower() in names), None)


def split_in(path: str) -> str | None:
    """The word for a split in a file's name or in that of a folder above it: `a-train-01.tar`, `val/000.parquet`."""
    place = PurePath(path)
    words = [*re.split(r"[-_.]", place.name), *reversed(place.parts[:-1])]
    return next((word for word in words if split_of(word)), None)


def ours(theirs: Iterable[str], *, where: str) -> dict[str, str]:
    """Our names of splits -> theirs.

    Raises:
        DataError: Two of theirs mean one of ours.
    """
    found: dict[str, str] = {}
    for name in theirs:
        split = split_of(name)
        if split and found.setdefault(split, name) != name:
            raise DataError(
                f"{where} has two parts that both are for {split}: {found[split]} and {name}. Rename or move one away."
            )
    return found


def group_by_split(files: Mapping[str, str], *, where: str) -> tuple[dict[str, list[str]], list[Note]]:
    """Files by our names of splits; all are "train" where no name holds a split.

    Args:
        files: Each file -> the part of its path in which a split may be named.
        where: They are.

    Raises:
        DataError: Files of two data sets lie side by side, or two names mean one split.
    """
    word_of = {file: split_in(path) for file, path in files.items()}
    parts = ours(dict.fromkeys(word for word in word_of.values() if word), where=where)
    if not parts:
        _refuse_two_sets(list(files.values()), where)
        told = f"No split is named: {len(files)} files are read as one set ({some(files.values())})."
        return {"train": list(files)}, [Note(text=told, count=len(files))] if len(files) > 1 else []
    groups = {split: [file for file, word in word_of.items() if word == name] for split, name in parts.items()}
    for group in groups.values():
        _refuse_two_sets([files[file] for file in group], where)
    unnamed = [files[file] for file, word in word_of.items() if not word]
    if not unnamed:
        return groups, []
    what = counted(len(unnamed), "file")
    return groups, [Note(text=f"Left out: {what} without a split in the name ({some(unnamed)}).", count=len(unnamed))]


def _refuse_two_sets(paths: list[str], where: str) -> None:
    """Files of one split in several folders, or with several names besides numbers, are several data sets."""
    sets: dict[str, str] = {}
    for path in paths:
        place = PurePath(path)
        folder = [part for part in place.parts[:-1] if not split_of(part) and not part.isdecimal()]
        words = re.split(r"[-_.]", place.name) if split_in(place.name) else []
        name = [word for word in words if not split_of(word) and not SAYS_NOTHING.fullmatch(word)]
        sets.setdefault("/".join([*folder, "-".join(name)]), path)
    if len(sets) > 1:
        one, other, *_ = sets.values()
        raise DataError(
            f"{where} holds {len(sets)} data sets, as {one} and {other}: they are not joined. "
            "Name the folder of one, or give each a folder of its own."
        )


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
