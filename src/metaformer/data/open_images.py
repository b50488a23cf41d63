"""Labelled images by the name that a command line gives them."""

from collections.abc import Callable
from pathlib import Path

from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.data.image_folder import FolderImages
from metaformer.data.image_set import ImageSet
from metaformer.data.parquet_images import ParquetImages
from metaformer.data.sources import DATA_SOURCES
from metaformer.data.timm_images import PREFIXES, TimmImages
from metaformer.data.webdataset_images import WebDatasetImages

FORMATS: dict[str, Callable[[Path, str | None], ImageSet]] = {
    "folder": FolderImages,
    "parquet": ParquetImages,
    "cifar10": ParquetImages,
    "wds": WebDatasetImages,
}
FORMS = "a folder of class folders, parquet:PATH, cifar10:PATH, wds:PATH, torch/NAME:FOLDER, hfds/NAME"


def open_images(data: str, split: str | None = None) -> ImageSet:
    """Opens labelled images.

    Args:
        data: `FOLDER` (class folders, .parquet files or .tar shards), `folder:`, `parquet:`, `cifar10:` or `wds:` and
            a path, or a name of timm's factory: `torch/cifar10:FOLDER`, `hfds/owner/name`.
        split: Which part; if not given test, else validation, else train.

    Raises:
        ConfigError: It does not have that form, or has no such split.
        DataError: Nothing is there, or it cannot be read.
        MissingExtraError: A library that it needs is not installed.
    """
    start, colon, rest = data.partition(":")
    if colon and start in FORMATS:
        return FORMATS[start](_existing(Path(rest).expanduser(), data), split)
    if "/" in start and start.partition("/")[0] in PREFIXES:
        return TimmImages(start, rest or None, split)
    return _by_content(_existing(Path(data).expanduser(), data), split)


def _by_content(path: Path, split: str | None) -> ImageSet:
    if path.is_file():
        kinds: dict[str, Callable[[Path, str | None], ImageSet]] = {".parquet": ParquetImages, ".tar": WebDatasetImages}
        if path.suffix not in kinds:
            raise ConfigError(f"data {str(path)!r} is one file; expected {FORMS}.")
        return kinds[path.suffix](path, split)
    if any(path.glob("*.parquet")):
        return ParquetImages(path, split)
    if any(path.glob("*.tar")):
        return WebDatasetImages(path, split)
    return FolderImages(path, split)


def _existing(path: Path, data: str) -> Path:
    if not path.exists():
        names = [*DATA_SOURCES, *(f"{name}:" for name in FORMATS), *(f"{prefix}/" for prefix in PREFIXES)]
        raise ConfigError(
            f"no data at {str(path)!r}: there is no such folder.{did_you_mean(data, names)} "
            f"Known: {', '.join(DATA_SOURCES)}; or {FORMS}."
        )
    return path
