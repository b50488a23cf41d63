"""Images in Parquet files, in the layout of Hugging Face `datasets`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaformer.core.errors import ConfigError, DataError, MissingExtraError
from metaformer.data.image_set import Sample
from metaformer.data.split_names import choose_split, split_of

ROWS_AT_ONCE = 256


class ParquetImages:
    """Files named `split-00000-of-00001.parquet`: a column of images (bytes, path) and one of labels."""

    order_is_by_name = False

    def __init__(self, folder: Path, split: str | None = None) -> None:
        self._arrow = _pyarrow()
        files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]
        parts = {file: _split_in(file) for file in files}
        if not files or not files[0].is_file():
            raise DataError(f"{folder} holds no .parquet files.")
        self.name = str(folder)
        if any(parts.values()) or split:
            part = choose_split([name for name in parts.values() if name], split, where=str(folder))
            files = [file for file, name in parts.items() if name == part]
            self.name = f"{folder}, {part}"
        self._files = files
        opened = [self._open(file) for file in files]
        self.num_images = sum(file.metadata.num_rows for file in opened)
        self._image, self._label, self.class_names = _columns(opened[0].schema_arrow, files[0])

    def __iter__(self) -> Iterator[Sample]:
        for file in self._files:
            row = 0
            for batch in self._open(file).iter_batches(ROWS_AT_ONCE, columns=[self._image, self._label]):
                for image, label in zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True):
                    name = f"{file.name}, row {row}" + (f" ({image['path']})" if image and image.get("path") else "")
                    yield Sample(name=name, image=(image or {}).get("bytes") or b"", label=label)
                    row += 1

    def _open(self, file: Path) -> Any:
        try:
            return self._arrow.ParquetFile(file)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {file} as Parquet: {str(error).splitlines()[0]}") from None


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
