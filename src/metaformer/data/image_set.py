"""The contract of labelled images that are read one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Int64
from torch import Tensor

from metaformer.data.decode.image_file import ImageSource


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image not yet read."""

    name: str  # by which a person finds it
    image: ImageSource
    label: int | None = None  # in the data's own order of classes


@runtime_checkable
class ImageSet(Protocol):
    """Labelled images in a fixed order, of any number."""

    @property
    def name(self) -> str:
        """For messages: where they come from, and which split."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the data's own order; empty where the data has numbers only."""
        ...

    @property
    def order_is_by_name(self) -> bool:
        """Whether the order of the classes is nobody's choice, but that of their names."""
        ...

    @property
    def num_images(self) -> int | None:
        """How many; None where only reading tells."""
        ...

    def __iter__(self) -> Iterator[Sample]: ...


@runtime_checkable
class IndexedImages(ImageSet, Protocol):
    """Labelled images of which each can be had by its number, best in rising order."""

    def read_labels(self) -> Int64[Tensor, " n"]:
        """In the data's own order of classes; -1 where an image has none."""
        ...

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Numbers of images that are read together, in order; empty where each is read alone."""
        ...

    @property
    def groups_at_once(self) -> int:
        """How many of such groups may be in use at the same time."""
        ...

    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class ShardedImages(ImageSet, Protocol):
    """Labelled images that can only be read in order, shard by shard."""

    @property
    def num_shards(self) -> int: ...

    def read_index(self) -> tuple[tuple[str, int], ...] | None:
        """Names and labels of all images; None where only reading everything would tell."""
        ...

    def shard(self, number: int) -> Iterator[Sample]:
        """The images of a shard, not decoded."""
        ...
