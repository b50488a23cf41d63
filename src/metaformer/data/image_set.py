"""The contract of labelled images that are read one by one; a format inherits what it does not do otherwise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from metaformer.data.decode.image_file import ImageSource
from metaformer.data.name_list import NameList
from metaformer.data.notes import Note


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image not yet read."""

    name: str  # by which a person finds it
    image: ImageSource
    label: object = None  # as the data have it: an index where they name their classes, else a number or a word


@runtime_checkable
class ImageSet(Protocol):
    """Labelled images in a fixed order, of any number."""

    name: str  # for messages: where they come from, and which split
    class_names: tuple[str, ...] = ()  # in the data's own order; empty where the labels speak for themselves
    order_is_by_name: bool = False  # whether the order of the classes is nobody's choice, but that of their names
    num_images: int | None = None  # None where only reading tells
    notes: tuple[Note, ...] = ()  # what was chosen or left out

    def __iter__(self) -> Iterator[Sample]: ...


@runtime_checkable
class IndexedImages(ImageSet, Protocol):
    """Labelled images of which each can be had by its number, best in rising order."""

    group_sizes: tuple[int, ...] = ()  # numbers of images that are read together, in order; empty: each alone
    groups_at_once: int = 1  # how many of such groups may be in use at the same time

    def read_labels(self) -> Sequence[object]:
        """One an image, as the source has it."""
        ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self.num_images or 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardIndex:
    """What the headers of shards tell."""

    names: NameList  # of all images
    labels: Sequence[object]
    shard_sizes: tuple[int, ...]  # images a shard


@runtime_checkable
class ShardedImages(ImageSet, Protocol):
    """Labelled images that can only be read in order, shard by shard."""

    num_shards: int
    num_bytes: int | None = None  # of local shards; None where they are elsewhere

    def read_index(self) -> ShardIndex | None:
        """Names and labels of all images; None where only reading everything would tell."""
        ...

    def shard(self, number: int) -> Iterator[Sample]:
        """The images of a shard, not decoded."""
        ...

    def __iter__(self) -> Iterator[Sample]:
        for number in range(self.num_shards):
            yield from self.shard(number)
