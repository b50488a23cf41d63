"""CIFAR-10 as its authors and torchvision store it: pickled batches, in a folder or a .tar.gz."""

import codecs
import io
import pickle
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metaformer.core.errors import DataError, one_line
from metaformer.data.formats.parquet import open_parquet
from metaformer.data.found import Found
from metaformer.data.image_set import IndexedImages, Sample

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
BATCHES = {"test": ("test_batch",), "train": tuple(f"data_batch_{number}" for number in range(1, 6))}
TITLE, CLASSES_FILE, SIDE_PX = "CIFAR-10", "batches.meta", 32


class CifarBatches(IndexedImages):
    """Photographs of 32x32 pixels in ten classes, decoded already."""

    def __init__(self, folder: Path, split: str) -> None:
        self.name = f"{folder}, {split}"
        content = _read(folder, [CLASSES_FILE, *BATCHES[split]])
        try:
            self.class_names = tuple(str(name) for name in content[CLASSES_FILE]["label_names"])
            batches = [content[name] for name in BATCHES[split]]
            rows = np.concatenate([batch["data"] for batch in batches])
            # Three planes of colour, one after the other.
            self._pixels = rows.reshape(-1, 3, SIDE_PX, SIDE_PX).transpose(0, 2, 3, 1)
            self._labels = [label for batch in batches for label in batch["labels"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder} does not hold CIFAR-10 as torchvision stores it: {error}.") from None
        self.num_images = len(self._labels)

    def read_labels(self) -> Sequence[object]:
        return self._labels

    def __getitem__(self, index: int) -> Sample:
        image = Image.fromarray(np.ascontiguousarray(self._pixels[index]))
        return Sample(name=f"{self.name}, image {index}", image=image, label=self._labels[index])


def open_cifar10(place: str) -> Found:
    """CIFAR-10 in torchvision's files or in Parquet files.

    Raises:
        DataError: Neither is there.
        MissingExtraError: Parquet's library is not installed.
    """
    folder = Path(place)
    if not holds_cifar_batches(folder) and not place.endswith((".tar.gz", ".tgz")):
        return replace(open_parquet(place), title=TITLE)
    splits = {split: partial(CifarBatches, folder, split) for split in BATCHES}
    return Found(title=TITLE, splits=splits)


def holds_cifar_batches(path: Path) -> bool:
    """Whether these are torchvision's files, by their names."""
    return path.name in (FOLDER, ARCHIVE) or any((path / name).exists() for name in (FOLDER, ARCHIVE))


def _read(path: Path, names: list[str]) -> dict[str, Any]:
    folder = path if path.name == FOLDER else path / FOLDER
    archive = path if path.is_file() else path / ARCHIVE
    try:
        if folder.is_dir():
            return {name: _unpickle((folder / name).read_bytes()) for name in names}
        content = {}
        # Read where it is: unpacking would write into the user's folder.
        with tarfile.open(archive) as opened:
            for name in names:
                file = opened.extractfile(f"{FOLDER}/{name}")
                content[name] = _unpickle(file.read()) if file else None
        return content
    except (OSError, KeyError, EOFError, tarfile.TarError, pickle.UnpicklingError, UnicodeDecodeError) as error:
        reason = one_line(error)
        raise DataError(f"cannot read CIFAR-10 in {folder if folder.is_dir() else archive}: {reason}") from None


class _OnlyArrays(pickle.Unpickler):
    """Opens lists, texts and arrays, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        # The files are older than NumPy's present modules.
        known = {
            ("multiarray", "_reconstruct"): _empty_array,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,
        }
        if (module.rpartition(".")[2], name) not in known:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which data have no use for")
        return known[module.rpartition(".")[2], name]


def _empty_array(kind: type[np.ndarray], shape: tuple[int, ...], _: bytes | str) -> np.ndarray:
    """What NumPy makes before it fills in the numbers."""
    return kind(shape, np.uint8)


def _unpickle(content: bytes) -> Any:
    return _OnlyArrays(io.BytesIO(content), encoding="latin1").load()
