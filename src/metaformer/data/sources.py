"""The one door to data: what a name stands for, opened for training or for evaluation."""

from dataclasses import replace
from pathlib import Path

from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.data.formats.shard_files import is_pattern
from metaformer.data.found import Found, SplitImages, choose_images
from metaformer.data.held.hold import hold
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataSource
from metaformer.data.table import FORMATS, GENERATED

DEFAULT = Preparation()


def open_data(name: str, preparation: Preparation = DEFAULT, *, num_workers: int = 0) -> DataSource:
    """Opens labelled images for training.

    Small sets are kept in memory; large ones are read again in every epoch, streams from beginning to end.

    Args:
        name: `digits`, `cluttered-digits`, `mnist1d` or `ising3d`, which ignore the rest, as
            `npz:FILE` does; a folder of class folders, Parquet files or tar shards; or a
            prefix of FORMATS and what belongs behind it.
        preparation: How images become a model's input.
        num_workers: Processes that read images, where they do not fit into memory; 0: the training process.

    Raises:
        ConfigError: The name has no such form, or a setting cannot work.
        DataError: Nothing is there, it cannot be read, or it can be read in two ways.
        MissingExtraError: A library that it needs is not installed.
    """
    found = find_data(name)
    return hold(found, preparation, num_workers=num_workers) if isinstance(found, Found) else found


def open_images(name: str, split: str | None = None) -> SplitImages:
    """Opens one split for evaluation; others are not read.

    Args:
        name: As for `open_data`, but nothing generated.
        split: Which part, by any of its usual names; if not given the first with labels of test, validation, train.

    Raises:
        ConfigError: The name has no such form, or there is no such split.
        DataError: Nothing is there, it cannot be read, or it has no labels.
        MissingExtraError: A library that it needs is not installed.
    """
    found = find_data(name)
    if not isinstance(found, Found):
        raise ConfigError(f"{name} is generated and has no image files.")
    return choose_images(found, split)


def find_data(name: str) -> Found | DataSource:
    """What a name stands for, not read yet.

    Raises:
        ConfigError: There is nothing of that name.
        DataError: Nothing is there, or it can be read in two ways.
        MissingExtraError: A library that it needs is not installed.
    """
    prefix = (
        name
        if name in GENERATED
        else next((prefix for prefix in FORMATS if name.startswith(prefix) and prefix[-1] in ":/"), "")
    )
    place = name[len(prefix) :]
    if not prefix:
        path = _existing(name, name)
        prefix = next((prefix for prefix, known in FORMATS.items() if known.claims(path)), "folder:")
        if prefix == "folder:" and path.is_file():
            raise ConfigError(f"data {name!r} is one file; expected {_forms()}.")
        place = str(path)
    elif FORMATS[prefix].is_path and not (prefix == "wds:" and is_pattern(place)):
        place = str(_existing(place, name))
    found = FORMATS[prefix].open(place)
    return replace(found, name=name) if isinstance(found, Found) else found


def _existing(place: str, name: str) -> Path:
    path = Path(place).expanduser()
    if path.exists():
        return path
    start = next((name[: name.index(sign) + 1] for sign in "/:" if sign in name[1:]), name)
    nearest = "" if start in FORMATS else did_you_mean(start, FORMATS)
    what = f"no data at {str(path)!r}: there is no such folder."
    if not {*"/:"} & {*name}:
        what = f"unknown data source {name!r}."
    raise ConfigError(f"{what}{nearest} Known: {', '.join(GENERATED)}; or {_forms()}.")


def _forms() -> str:
    return ", ".join(known.form for known in FORMATS.values() if known.form)
