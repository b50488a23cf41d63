"""The splits that labelled images have of their own."""

from collections.abc import Iterable
from pathlib import Path

from metaformer.core.errors import ConfigError
from metaformer.data.formats.cifar_batches import BATCHES, CifarBatches
from metaformer.data.formats.folder import FolderImages, split_folders
from metaformer.data.formats.parquet import split_files
from metaformer.data.formats.timm_factory import splits_of_name
from metaformer.data.image_set import ImageSet, IndexedImages
from metaformer.data.open_images import kind_of, open_images
from metaformer.data.split_names import split_of


def open_splits(data: str) -> dict[str, IndexedImages]:
    """Opens every split of indexed images, by our names.

    Args:
        data: As for `open_images`, but no stream.

    Raises:
        ConfigError: It does not have that form.
        DataError: Nothing is there, or it cannot be read.
        MissingExtraError: A library that it needs is not installed.
    """
    kind, place = kind_of(data)
    theirs: Iterable[str | None]
    if kind is None:
        theirs = splits_of_name(data)
    elif kind is FolderImages:
        theirs = split_folders(Path(place))
    elif kind is CifarBatches:
        theirs = BATCHES
    else:
        theirs = split_files(Path(place)).values()
    ours = {split: name for name in theirs if name and (split := split_of(name))}
    if not ours:
        return {"train": _indexed(open_images(data))}
    return {split: _indexed(open_images(data, name)) for split, name in ours.items()}


def _indexed(images: ImageSet) -> IndexedImages:
    if not isinstance(images, IndexedImages):
        raise ConfigError(f"{images.name} can be evaluated, but not trained on.")
    return images
