"""Training data by name."""

from collections.abc import Mapping
from pathlib import Path

from metaformer.data.formats.embedded import DATA_SOURCES
from metaformer.data.formats.hub_stream import open_hub_stream
from metaformer.data.formats.shard_files import is_remote
from metaformer.data.formats.webdataset import WebDatasetImages, open_shards
from metaformer.data.held.large_images import LargeImages
from metaformer.data.held.listed_images import ListedImages
from metaformer.data.held.memory_images import MemoryImages
from metaformer.data.held.storage import choose_storage
from metaformer.data.held.stream_facts import stream_facts
from metaformer.data.held.streamed_images import StreamedImages
from metaformer.data.image_set import IndexedImages, ShardedImages
from metaformer.data.image_splits import split_images
from metaformer.data.open_images import kind_of, unknown_data
from metaformer.data.open_splits import open_splits
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataSource

__all__ = ["DATA_SOURCES", "open_data"]

DEFAULT = Preparation()
LISTED_BYTES = 1 << 30  # local shards up to this are kept in memory as they are, and have an index then


def open_data(name: str, preparation: Preparation = DEFAULT, *, num_workers: int = 0) -> DataSource:
    """Opens labelled images for training.

    Small sets are kept in memory; large ones are read again in every epoch, streams from beginning to end.

    Args:
        name: `digits` or `cluttered-digits`, which ignore the rest; or any form that `open_images` takes.
        preparation: How images become a model's input.
        num_workers: Processes that read images, where they do not fit into memory; 0: the training process.

    Raises:
        ConfigError: The name has no such form, or a setting cannot work.
        DataError: Nothing is there, or it cannot be read.
        MissingExtraError: A library that it needs is not installed.
    """
    if name in DATA_SOURCES:
        return DATA_SOURCES[name]()
    if not Path(name).exists() and not {*"/:"} & {*name}:
        raise unknown_data(name, f"unknown data source {name!r}.")
    if name.startswith("hfids/"):
        return _stream(open_hub_stream(name), preparation, name=name, num_workers=num_workers)
    kind, place = kind_of(name)
    if kind is not WebDatasetImages:
        return _indexed(open_splits(name), preparation, name=name, num_workers=num_workers)
    shards = open_shards(place)
    if _are_small(shards):
        listed = {split: ListedImages(images) for split, images in shards.items()}
        return _indexed(listed, preparation, name=name, num_workers=num_workers)
    return _stream(shards, preparation, name=name, num_workers=num_workers)


def _indexed(
    found: Mapping[str, IndexedImages], preparation: Preparation, *, name: str, num_workers: int
) -> DataSource:
    splits = split_images(found, preparation, name=name)
    storage = choose_storage(splits, preparation, name=name)
    if storage.in_memory:
        return MemoryImages(splits, preparation, storage=storage, name=name, title=_title(name))
    return LargeImages(
        splits,
        preparation,
        image_size=storage.image_size,
        name=name,
        title=_title(name),
        num_workers=num_workers,
    )


def _stream(found: Mapping[str, ShardedImages], preparation: Preparation, *, name: str, num_workers: int) -> DataSource:
    facts = stream_facts(found, preparation, name=name)
    return StreamedImages(found, facts, preparation, name=name, title=_title(name), num_workers=num_workers)


def _are_small(splits: Mapping[str, WebDatasetImages]) -> bool:
    shards = [shard for images in splits.values() for shard in images.shards]
    return not any(map(is_remote, shards)) and sum(Path(shard).stat().st_size for shard in shards) <= LISTED_BYTES


def _title(name: str) -> str:
    kind, _, place = name.partition(":")
    if kind == "cifar10":
        return "CIFAR-10"
    if "/" in kind and kind.partition("/")[0] in ("torch", "hfds", "hfids"):
        return kind.partition("/")[2]
    return Path(place or kind).name
