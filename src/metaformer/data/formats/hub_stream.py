"""Data sets of the Hugging Face hub that are read while they are downloaded: `hfids/owner/name`."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from metaformer.core.errors import ConfigError, DataError, MissingExtraError, one_line
from metaformer.data.formats.timm_factory import splits_of_name
from metaformer.data.image_set import Sample
from metaformer.data.split_names import split_of


class HubStream:
    """One split of a data set, in as many shards as it is stored in."""

    order_is_by_name = False

    def __init__(self, repository: str, split: str, *, cache: str | None = None) -> None:
        try:
            import datasets
        except ImportError:
            raise MissingExtraError(need="data by hfids/", extra="data") from None
        self.name = f"hfids/{repository}, {split}"
        try:
            self._data = datasets.load_dataset(repository, split=split, streaming=True, cache_dir=cache)
            self._features = self._data.features or {}
            self.num_shards = int(self._data.num_shards)
            counts = self._data.info.splits or {}
        # Whatever the library raises: a name that is not there, or no network.
        except Exception as error:
            raise DataError(f"cannot open {self.name}: {one_line(error)}") from None
        self.num_images: int | None = (counts[split].num_examples or None) if split in counts else None
        self._image = self._column(datasets.Image, ("image", "img"))
        self._label = self._column(datasets.ClassLabel, ("label", "labels", "target", "cls"))
        names = getattr(self._features.get(self._label), "names", None)
        self.class_names = tuple(str(name) for name in names or ())
        # Decoding is the workers' part.
        self._data = self._data.cast_column(self._image, datasets.Image(decode=False))

    def read_index(self) -> None:
        """Nothing: only reading tells."""

    def __iter__(self) -> Iterator[Sample]:
        return chain.from_iterable(self.shard(number) for number in range(self.num_shards))

    def shard(self, number: int) -> Iterator[Sample]:
        """The images of a shard.

        Raises:
            DataError: It cannot be read.
        """
        place = 0
        try:
            for row in self._data.shard(num_shards=self.num_shards, index=number):
                yield self._sample(row, f"{self.name}, shard {number}, image {place}")
                place += 1
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"cannot read {self.name}, shard {number}, after {place} images: {one_line(error)}"
            ) from None

    def _sample(self, row: dict[str, Any], name: str) -> Sample:
        image, label = row[self._image] or {}, row[self._label]
        if image.get("path"):
            name = f"{name} ({image['path']})"
        return Sample(name=name, image=image.get("bytes") or b"", label=None if label is None else int(label))

    def _column(self, kind: type, usual: tuple[str, ...]) -> str:
        found = [column for column, feature in self._features.items() if isinstance(feature, kind)]
        found += [column for column in usual if column in self._features]
        if not found:
            raise ConfigError(f"{self.name} has no column like {usual[0]}; it has: {', '.join(self._features)}.")
        return str(found[0])


def open_hub_stream(data: str) -> dict[str, HubStream]:
    """The splits of `hfids/owner/name[:CACHE]`, by our names.

    Raises:
        DataError: The data set cannot be reached.
        MissingExtraError: The library is not installed.
    """
    name, _, cache = data.partition(":")
    repository = name.partition("/")[2]
    ours = {split: theirs for theirs in splits_of_name(data) if (split := split_of(theirs))}
    return {split: HubStream(repository, theirs, cache=cache or None) for split, theirs in ours.items()}
