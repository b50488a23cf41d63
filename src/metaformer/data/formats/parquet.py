"""Images in Parquet files, in the layout of Hugging Face `datasets`."""

import bisect
import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.core.errors import ConfigError, DataError, MissingExtraError, first_line
from metaformer.data.image_set import Sample
from metaformer.data.split_names import choose_split, split_of

ROWS_AT_ONCE = 256
KEPT_BYTES = 1 << 30  # of row groups read last


class ParquetImages:
    """Files named `split-00000-of-00001.parquet`: a column of images (bytes, path) and one of labels.

    An image is had by reading its row group; those read last are kept.
    """

    order_is_by_name = False

    def __init__(self, folder: Path, split: str | None = None) -> None:
        self._arrow = _pyarrow()
        parts = split_files(folder)
        files = list(parts)
        self.name = str(folder)
        if any(parts.values()) or split:
            part = choose_split([name for name in parts.values() if name], split, where=str(folder))
            files = [file for file, name in parts.items() if name == part]
            self.name = f"{folder}, {part}"
        self._files = files
        opened = [self._open(file) for file in files]
        self.num_images = sum(file.metadata.num_rows for file in opened)
        self._image, self._label, self.class_names = _columns(opened[0].schema_arrow, files[0])
        sizes = [[file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] for file in opened]
        self.group_sizes = tuple(rows for rows_of_file in sizes for rows in rows_of_file)
        # Of each row group: its file, its number there, and the number of its first row in the file.
        self._groups = [
            (file, group, first)
            for file, rows in zip(files, sizes, strict=True)
            for group, first in enumerate(accumulate(rows[:-1], initial=0))
        ]
        num_bytes = sum(
            file.metadata.row_group(i).total_byte_size for file in opened for i in range(file.num_row_groups)
        )
        self.groups_at_once = max(1, KEPT_BYTES * len(self._groups) // max(num_bytes, 1))
        self._ends = list(accumulate(self.group_sizes))
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def read_labels(self) -> Int64[Tensor, " n"]:
        columns = [self._open(file).read(columns=[self._label]).column(0) for file in self._files]
        return torch.tensor([-1 if label is None else int(label) for one in columns for label in one.to_pylist()])

    def __getitem__(self, index: int) -> Sample:
        place = bisect.bisect_right(self._ends, index)
        row = index - self._ends[place] + self.group_sizes[place]
        file, _, first = self._groups[place]
        images, labels = self._group(place)
        image = {name: column[row].as_py() for name, column in images.items()}
        return _sample(file, first + row, image, labels[row].as_py())

    def __iter__(self) -> Iterator[Sample]:
        for file in self._files:
            row = 0
            for batch in self._open(file).iter_batches(ROWS_AT_ONCE, columns=[self._image, self._label]):
                for image, label in zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True):
                    yield _sample(file, row, image, label)
                    row += 1

    def _group(self, place: int) -> Any:
        if place not in self._kept:
            file, group, _ = self._groups[place]
            read = self._open(file).read_row_group(group, columns=[self._image, self._label])
            images = read.column(self._image).combine_chunks()
            # A field of its own is read three times faster than a row as a whole.
            fields = {name: images.field(name) for name in ("bytes", "path") if name in images.type.names}
            self._kept[place] = fields, read.column(self._label).combine_chunks()
            while len(self._kept) > self.groups_at_once:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]

    def _open(self, file: Path) -> Any:
        try:
            return self._arrow.ParquetFile(file)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {file} as Parquet: {first_line(error)}") from None


def split_files(folder: Path) -> dict[Path, str | None]:
    """The Parquet files of a folder, or the one given, and the split in the name of each.

    Raises:
        DataError: There are none.
    """
    files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]
    if not files or not files[0].is_file():
        raise DataError(f"{folder} holds no .parquet files.")
    return {file: _split_in(file) for file in files}


def _sample(file: Path, row: int, image: dict[str, Any] | None, label: int | None) -> Sample:
    name = f"{file.name}, row {row}" + (f" ({image['path']})" if image and image.get("path") else "")
    return Sample(name=name, image=(image or {}).get("bytes") or b"", label=label)


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(need="Parquet data", extra="data") from None
    return pyarrow.parquet


def _split_in(file: Path) -> str | None:
    """The split in a name such as `test-00000-of-00001.parquet` or `test/0000.parquet`."""
    words = [*re.split(r"[-_.]", file.stem), file.parent.name]
    return next((word for word in words if split_of(word)), None)


def _columns(schema: Any, file: Path) -> tuple[str, str, tuple[str, ...]]:
    """The column of images, that of labels, and the names of the classes, as the schema says."""
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = stored.get("info", {}).get("features", {})
    images = [column.name for column in schema if getattr(column.type, "names", None) and "bytes" in column.type.names]
    classes = [name for name, feature in features.items() if isinstance(feature, dict) and "names" in feature]
    labels = [name for name in (*classes, "label", "labels", "target", "cls") if name in schema.names]
    if not images or not labels:
        raise ConfigError(
            f"{file} has no column of images (bytes, path) and of labels (label); it has: {', '.join(schema.names)}."
        )
    return images[0], labels[0], tuple(features.get(labels[0], {}).get("names", ()))
