"""Labelled images by the name that a command line gives them."""

from pathlib import Path

from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.data.formats.cifar_batches import CifarBatches, holds_cifar_batches
from metaformer.data.formats.embedded import DATA_SOURCES
from metaformer.data.formats.folder import FolderImages
from metaformer.data.formats.parquet import ParquetImages
from metaformer.data.formats.shard_files import is_pattern
from metaformer.data.formats.timm_factory import PREFIXES, TimmImages
from metaformer.data.formats.webdataset import WebDatasetImages
from metaformer.data.image_set import ImageSet

Kind = type[FolderImages] | type[ParquetImages] | type[CifarBatches] | type[WebDatasetImages]

FORMATS: dict[str, Kind] = {
    "folder": FolderImages,
    "parquet": ParquetImages,
    "cifar10": ParquetImages,
    "wds": WebDatasetImages,
}
FORMS = "a folder of class folders, parquet:PATH, cifar10:PATH, wds:PATH, torch/NAME:FOLDER, hfds/NAME"


def open_images(data: str, split: str | None = None) -> ImageSet:
    """Opens labelled images.

    Args:
        data: `FOLDER` (class folders, .parquet files or .tar shards); `folder:`, `parquet:`, `cifar10:` (Parquet or
            torchvision's files) or `wds:` and a path; `wds:` and a pattern or addresses; or a name of timm's factory:
            `torch/cifar10:FOLDER`, `hfds/owner/name`.
        split: Which part; if not given test, else validation, else train.

    Raises:
        ConfigError: It does not have that form, or has no such split.
        DataError: Nothing is there, or it cannot be read.
        MissingExtraError: A library that it needs is not installed.
    """
    kind, place = kind_of(data)
    if kind is None:
        name, _, root = data.partition(":")
        return TimmImages(name, root or None, split)
    # A path would make one slash of an address's two.
    return WebDatasetImages(place, split) if kind is WebDatasetImages else kind(Path(place), split)


def kind_of(data: str) -> tuple[Kind | None, str]:
    """Which class opens the data, and where they are; no class for a name of timm's factory.

    Raises:
        ConfigError: There is nothing of that name.
    """
    start, colon, rest = data.partition(":")
    if colon and start == "wds" and is_pattern(rest):
        return WebDatasetImages, rest
    if colon and start in FORMATS:
        path = _existing(Path(rest).expanduser(), data)
        return (CifarBatches if start == "cifar10" and holds_cifar_batches(path) else FORMATS[start]), str(path)
    if "/" in start and start.partition("/")[0] in PREFIXES:
        return None, data
    path = _existing(Path(data).expanduser(), data)
    return _by_content(path), str(path)


def _by_content(path: Path) -> Kind:
    if path.is_file():
        kinds: dict[str, Kind] = {".parquet": ParquetImages, ".tar": WebDatasetImages}
        if path.suffix not in kinds:
            raise ConfigError(f"data {str(path)!r} is one file; expected {FORMS}.")
        return kinds[path.suffix]
    if any(path.glob("*.parquet")):
        return ParquetImages
    if any(path.glob("*.tar")):
        return WebDatasetImages
    return FolderImages


def _existing(path: Path, data: str) -> Path:
    if not path.exists():
        raise unknown_data(data, f"no data at {str(path)!r}: there is no such folder.")
    return path


def unknown_data(data: str, what: str) -> ConfigError:
    """The error for a name that is neither in a table nor a place: says which is nearest and what there is."""
    names = [*DATA_SOURCES, *(f"{name}:" for name in FORMATS), *(f"{prefix}/" for prefix in PREFIXES)]
    start = next((data[: data.index(sign) + 1] for sign in "/:" if sign in data[1:]), data)
    nearest = "" if start in names else did_you_mean(start, names)
    return ConfigError(f"{what}{nearest} Known: {', '.join(DATA_SOURCES)}; or {FORMS}.")
