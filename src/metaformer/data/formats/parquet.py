"""Images in Parquet files, in the layout of Hugging Face `datasets`."""

import bisect
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from metaformer.core.errors import ConfigError, DataError, MissingExtraError, first_line
from metaformer.core.printable import printable
from metaformer.data.found import Found
from metaformer.data.image_set import IndexedImages, Sample
from metaformer.data.notes import Note, some
from metaformer.data.split_names import group_by_split
from metaformer.data.walk import Walk

ROWS_AT_ONCE = 256
KEPT_BYTES = 1 << 30  # of row groups read last
IMAGE_COLUMNS = ("image", "img", "images", "image_bytes", "bytes", "picture", "photo", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "target", "cls", "class", "fine_label", "category", "class_name", "label_name")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table are used, and what is said about the choice."""

    image: str
    label: str
    class_names: tuple[str, ...]
    notes: tuple[Note, ...]


class ParquetImages(IndexedImages):
    """Files with a column of images (a record of bytes and path, or bytes) and one of labels.

    An image is had by reading its row group; those read last are kept.

    Raises:
        ConfigError: There is no such column.
        DataError: A file cannot be read, or has other columns than the first.
    """

    def __init__(self, files: Sequence[Path], *, name: str) -> None:
        self._arrow, self._files = _pyarrow(), files
        self.name = name
        opened = [self._open(file) for file in files]
        self.num_images: int = sum(file.metadata.num_rows for file in opened)
        columns = _columns(opened[0].schema_arrow, files[0])
        for file, other in zip(files[1:], opened[1:], strict=True):
            found = _columns(other.schema_arrow, file)
            if (found.image, found.label, found.class_names) != (columns.image, columns.label, columns.class_names):
                raise DataError(
                    f"{files[0].name} and {file.name} are of two data sets: their columns of images and labels, or "
                    "their classes, differ. Name one file, or give each a folder of its own."
                )
        self._image, self._label = columns.image, columns.label
        self.class_names, self.notes = columns.class_names, columns.notes
        sizes = [[file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] for file in opened]
        self.group_sizes = tuple(rows for rows_of_file in sizes for rows in rows_of_file)
        # Of each row group: its file, its number there, and the number of its first row in the file.
        self._groups = [
            (file, group, first)
            for file, rows in zip(files, sizes, strict=True)
            for group, first in enumerate(accumulate(rows[:-1], initial=0) if rows else ())
        ]
        num_bytes = sum(
            file.metadata.row_group(i).total_byte_size for file in opened for i in range(file.num_row_groups)
        )
        self.groups_at_once = max(1, KEPT_BYTES * len(self._groups) // max(num_bytes, 1))
        self._ends = list(accumulate(self.group_sizes))
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def read_labels(self) -> Sequence[object]:
        labels: list[object] = []
        for file in self._files:
            labels += self._read(file, lambda opened: opened.read(columns=[self._label]).column(0).to_pylist())
        return labels

    def __getitem__(self, index: int) -> Sample:
        place = bisect.bisect_right(self._ends, index)
        row = index - self._ends[place] + self.group_sizes[place]
        file, _, first = self._groups[place]
        images, labels = self._group(place)
        image = {name: column[row].as_py() for name, column in images.items()}
        return self._sample(file, first + row, image, labels[row].as_py())

    def __iter__(self) -> Iterator[Sample]:
        for file in self._files:
            row = 0
            for batch in self._batches(file):
                for image, label in zip(
                    *(batch.column(name).to_pylist() for name in (self._image, self._label)), strict=True
                ):
                    yield self._sample(file, row, image, label)
                    row += 1

    def _batches(self, file: Path) -> Iterator[Any]:
        batches = self._open(file).iter_batches(ROWS_AT_ONCE, columns=[self._image, self._label])
        while (batch := self._read(file, lambda _: next(batches, None))) is not None:
            yield batch

    def _group(self, place: int) -> Any:
        if place not in self._kept:
            file, group, _ = self._groups[place]
            read = self._read(file, lambda opened: opened.read_row_group(group, columns=[self._image, self._label]))
            images = read.column(self._image).combine_chunks()
            # A field of its own is read three times faster than a row as a whole.
            fields = [name for name in ("bytes", "path") if name in getattr(images.type, "names", ())]
            columns = {name: images.field(name) for name in fields} or {"bytes": images}
            self._kept[place] = columns, read.column(self._label).combine_chunks()
            while len(self._kept) > self.groups_at_once:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]

    def _read(self, file: Path, what: Any) -> Any:
        try:
            return what(self._open(file))
        except (OSError, ValueError, NotImplementedError) as error:
            raise DataError(f"cannot read {file} as Parquet: {first_line(error)}") from None

    def _open(self, file: Path) -> Any:
        try:
            return self._arrow.ParquetFile(file)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {file} as Parquet: {first_line(error)}") from None

    def _sample(self, file: Path, row: int, image: Any, label: Any) -> Sample:
        image = image if isinstance(image, dict) else {"bytes": image}
        content, path = image.get("bytes"), image.get("path")
        name = f"{file.name}, row {row}" + (f" ({path})" if path else "")
        if content is None and path:
            # Files that the table only names lie beside it.
            return Sample(name=name, image=file.parent / path, label=label)
        return Sample(name=name, image=content or b"", label=label)


def open_parquet(place: str) -> Found:
    """The splits of the Parquet files of a folder and below it, or of one file.

    Raises:
        DataError: There are none, or they are of two data sets.
        MissingExtraError: The library is not installed.
    """
    _pyarrow()
    folder, walk = Path(place), Walk(place, {".parquet"})
    files = {str(folder): folder.name} if folder.is_file() else {str(folder / file): file for file in walk.files()}
    if not files:
        raise DataError(f"{place} holds no .parquet files.")
    groups, told = group_by_split(files, where=place)
    several = len(groups) > 1 or "train" not in groups

    def opener(split: str) -> ParquetImages:
        name = f"{printable(place)}, {split}" if several else printable(place)
        return ParquetImages([Path(file) for file in groups[split]], name=name)

    splits = {split: partial(opener, split) for split in groups}
    return Found(title=folder.name, splits=splits, notes=tuple(told))


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(need="Parquet data", extra="data") from None
    return pyarrow.parquet


def _columns(schema: Any, file: Path) -> Columns:
    """The column of images, that of labels, and the names of the classes, as the schema says."""
    import pyarrow

    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = dict(stored.get("info", {}).get("features") or {})
    except (ValueError, AttributeError, TypeError):
        features = {}
    binary = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    records = [column.name for column in schema if {"bytes", "path"} & {*(getattr(column.type, "names", None) or ())}]
    plain = [column.name for column in schema if any(is_kind(column.type) for is_kind in binary)]
    images = [*records, *(name for name in IMAGE_COLUMNS if name in plain)]
    classes = [name for name, feature in features.items() if isinstance(feature, dict) and "names" in feature]
    labels = [name for name in dict.fromkeys((*classes, *LABEL_COLUMNS)) if name in schema.names]
    # Among several, those that are called as most are.
    images.sort(key=lambda name: IMAGE_COLUMNS.index(name) if name in IMAGE_COLUMNS else len(IMAGE_COLUMNS))
    labels.sort(key=lambda name: (name not in classes, LABEL_COLUMNS.index(name) if name in LABEL_COLUMNS else 99))
    if not images or not labels:
        inside = [f"{column.name!r} ({column.type})" for column in schema if pyarrow.types.is_nested(column.type)]
        nested = (
            f" Inside a column nothing is looked for: write what {some(inside)} holds as columns." if inside else ""
        )
        raise ConfigError(
            f"{file} has no column of images (bytes, path) and of labels (label); it has: {', '.join(schema.names)}."
            f"{nested}"
        )
    told = tuple(
        Note(text=f"Of the columns {some(names)} of {what} {names[0]!r} is taken.", count=len(names))
        for what, names in (("images", images), ("classes", labels))
        if len(names) > 1
    )
    names = features.get(labels[0], {}).get("names") if labels[0] in classes else None
    return Columns(image=images[0], label=labels[0], class_names=tuple(map(str, names or ())), notes=told)
