"""Data sets of the Hugging Face hub: `hfds/owner/name`, downloaded, and `hfids/owner/name`, streamed."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from metaformer.core.errors import ConfigError, DataError, MissingExtraError, one_line
from metaformer.data.found import Found
from metaformer.data.image_set import ImageSet, IndexedImages, Sample, ShardedImages
from metaformer.data.notes import Note, some
from metaformer.data.split_names import ours

IMAGES, LABELS = ("image", "img"), ("label", "labels", "target", "cls", "class", "fine_label")


class _HubSplit:
    """One split, as `datasets` opens it; decoding is left to who reads."""

    def __init__(self, repository: str, split: str, *, cache: str | None, prefix: str) -> None:
        datasets = _datasets()
        self.name = f"{prefix}/{repository}, {split}"
        try:
            self._data: Any = datasets.load_dataset(
                repository, split=split, streaming=prefix == "hfids", cache_dir=cache
            )
            features = self._data.features or {}
            counts = self._data.info.splits or {}
        # Whatever the library raises: a name that is not there, or no network.
        except Exception as error:
            raise DataError(f"cannot open {self.name}: {one_line(error)}") from None
        self.num_images = (counts[split].num_examples or None) if split in counts else None
        self._image, told = _column(features, datasets.Image, IMAGES, self.name)
        self._label, more = _column(features, datasets.ClassLabel, LABELS, self.name)
        self.notes = (*told, *more)
        self.class_names = tuple(map(str, getattr(features.get(self._label), "names", None) or ()))
        self._data = self._data.cast_column(self._image, datasets.Image(decode=False))

    def _sample(self, row: dict[str, Any], name: str) -> Sample:
        image = row[self._image] or {}
        content, path = image.get("bytes"), image.get("path")
        if content is None and path:
            content = Path(path)
        return Sample(name=f"{name} ({path})" if path else name, image=content or b"", label=row[self._label])


class HubImages(_HubSplit, IndexedImages):
    """A split that lies on the disk."""

    def __init__(self, repository: str, split: str, *, cache: str | None) -> None:
        super().__init__(repository, split, cache=cache, prefix="hfds")
        self.num_images = len(self._data)

    def read_labels(self) -> Sequence[object]:
        return list(self._data.select_columns([self._label])[self._label])

    def __getitem__(self, index: int) -> Sample:
        return self._sample(self._data[index], f"{self.name}, image {index}")


class HubStream(_HubSplit, ShardedImages):
    """A split in as many shards as it is stored in."""

    def __init__(self, repository: str, split: str, *, cache: str | None) -> None:
        super().__init__(repository, split, cache=cache, prefix="hfids")
        self.num_shards = int(self._data.num_shards)

    def read_index(self) -> None:
        """Nothing: only reading tells."""

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


def open_hub(place: str) -> Found:
    """The splits of `owner/name[:CACHE]`, downloaded.

    Raises:
        DataError: The data set cannot be reached.
        MissingExtraError: The library is not installed.
    """
    return _found(place, HubImages, "hfds")


def open_hub_stream(place: str) -> Found:
    """The splits of `owner/name[:CACHE]`, read while they are downloaded.

    Raises:
        DataError: The data set cannot be reached.
        MissingExtraError: The library is not installed.
    """
    return _found(place, HubStream, "hfids")


def _found(place: str, kind: type[HubImages] | type[HubStream], prefix: str) -> Found:
    repository, _, cache = place.partition(":")
    datasets = _datasets(prefix)
    try:
        theirs = datasets.get_dataset_split_names(repository)
    # Whatever the library raises: a name that is not there, or no network.
    except Exception as error:
        raise DataError(f"cannot open {prefix}/{place}: {one_line(error)}") from None

    def opener(split: str) -> ImageSet:
        return kind(repository, split, cache=cache or None)

    names = ours(theirs, where=repository) or {"train": theirs[0]}
    splits = {split: partial(opener, name) for split, name in names.items()}
    left_out = [name for name in theirs if name not in names.values()]
    told = [Note(text=f"Left out: the splits {some(left_out)}.", count=len(left_out))] if left_out else []
    return Found(title=repository, splits=splits, notes=tuple(told))


def _datasets(prefix: str = "hfds") -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(need=f"data by {prefix}/", extra="data") from None
    datasets.disable_progress_bars()
    return datasets


def _column(features: Any, kind: type, usual: tuple[str, ...], where: str) -> tuple[str, list[Note]]:
    found = [column for column, feature in features.items() if isinstance(feature, kind)]
    found += [column for column in usual if column in features and column not in found]
    if not found:
        raise ConfigError(f"{where} has no column like {usual[0]}; it has: {', '.join(features)}.")
    # A column of the kind comes before one that only has the name.
    taken = next((column for column in usual if column in found and isinstance(features[column], kind)), found[0])
    told = [Note(text=f"Of the columns {some(found)} {taken!r} is taken.", count=len(found))] if len(found) > 1 else []
    return str(taken), told
