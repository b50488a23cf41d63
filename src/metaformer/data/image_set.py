"""The contract of labelled images that are read one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from metaformer.data.image_file import ImageSource


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
