"""How the splits that a format found are held for training: in memory, by index, or as streams."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.classes import Agreement, agree_on_classes
from metaformer.data.found import Found, labels_of, looks_unlabelled
from metaformer.data.held.large_images import LargeImages
from metaformer.data.held.listed_images import ListedImages
from metaformer.data.held.memory_images import MemoryImages
from metaformer.data.held.storage import choose_storage
from metaformer.data.held.stream_facts import stream_facts
from metaformer.data.held.streamed_images import StreamedImages
from metaformer.data.image_set import ImageSet, IndexedImages, ShardedImages
from metaformer.data.image_splits import ImageSplits, split_images
from metaformer.data.notes import Note, counted
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataOrigin, DataSource

LISTED_BYTES = 1 << 30  # local shards up to this are kept in memory as they are, and have an index then
FINGERPRINT_IMAGES = 64  # whose content is looked at; the labels of all are


def hold(found: Found, preparation: Preparation, *, num_workers: int) -> DataSource:
    """Opens all splits, agrees on their classes, and holds them as their size allows.

    Raises:
        ConfigError: There is no training split, or a setting cannot work.
        DataError: The splits do not belong together, or have one class only.
    """
    if "train" not in found.splits:
        raise ConfigError(f"{found.name} has no training split to train on; it has: {', '.join(found.splits)}.")
    opened = {split: open_split() for split, open_split in found.splits.items()}
    told = [*found.notes, *(note for images in opened.values() for note in images.notes)]
    sharded = {split: images for split, images in opened.items() if isinstance(images, ShardedImages)}
    if sharded and not _are_small(sharded):
        return _stream(found, sharded, preparation, told, num_workers=num_workers)
    splits, agreed = open_splits(opened, preparation, name=found.name)
    origin = DataOrigin(name=found.name, title=found.title, notes=(*told, *agreed), fingerprint=fingerprint_of(splits))
    storage = choose_storage(splits, preparation, name=found.name)
    if storage.in_memory:
        return MemoryImages(splits, preparation, storage=storage, origin=origin)
    return LargeImages(splits, preparation, image_size=storage.image_size, num_workers=num_workers, origin=origin)


def open_splits(
    opened: Mapping[str, ImageSet], preparation: Preparation, *, name: str
) -> tuple[ImageSplits, tuple[Note, ...]]:
    """The three parts of indexed images, and what is to be said of their classes.

    Raises:
        ConfigError: A setting cannot work.
        DataError: The splits do not belong together, are empty, or have one class only.
    """
    indexed = {split: _indexed(images) for split, images in opened.items()}
    empty = next((images for images in indexed.values() if not images.num_images), None)
    if empty:
        raise DataError(f"{empty.name} holds no images.")
    labels = {split: labels for split, images in indexed.items() if (labels := labels_of(images))}
    agreement = agree_on_classes(labels, num_classes=preparation.num_classes)
    _require_two(agreement.class_names, name, indexed["train"].num_images or 0)
    return split_images(indexed, agreement, preparation, name=name), agreement.notes


def fingerprint_of(splits: ImageSplits) -> str:
    """What tells data from others wherever they lie: classes, all labels, and the content of some images."""
    digest = hashlib.sha256("\0".join(splits.class_names).encode(errors="surrogateescape"))
    for part in (splits.train, splits.validation, splits.test):
        if part is None:
            continue
        digest.update(part.labels.numpy().tobytes())
        step = max(1, len(part) // FINGERPRINT_IMAGES)
        for place in range(0, len(part), step):
            image = part.sample(place).image
            try:
                content = image.read_bytes() if isinstance(image, Path) and image.is_file() else image
            # Who trains on it hears of it.
            except OSError:
                content = b""
            digest.update(
                content.tobytes()
                if isinstance(content, Image.Image)
                else content
                if isinstance(content, bytes)
                else b""
            )
    return digest.hexdigest()[:16]


def _stream(
    found: Found, splits: Mapping[str, ShardedImages], preparation: Preparation, told: list[Note], *, num_workers: int
) -> DataSource:
    kept = dict(splits)
    for split in [split for split in splits if split != "train"]:
        if splits[split].read_index() is None and (num := looks_unlabelled(splits[split])):
            told.append(
                Note(text=f"The {split} split has no labels and is left out (the first {num} have none).", count=num)
            )
            del kept[split]
    labels = {split: labels for split, images in kept.items() if (labels := labels_of(images))}
    agreement: Agreement | None = None
    if len(labels) == len(kept):
        agreement = agree_on_classes(labels, num_classes=preparation.num_classes)
        kept = {split: kept[split] for split in agreement.labels}
        told += agreement.notes
    facts = stream_facts(kept, agreement, preparation, name=found.name)
    _require_two(facts.class_names, found.name, facts.num_train)
    digest = hashlib.sha256("\0".join(facts.class_names).encode(errors="surrogateescape"))
    for images in kept.values():
        index = images.read_index()
        digest.update(repr((images.num_images, images.num_shards, index.shard_sizes if index else None)).encode())
    origin = DataOrigin(name=found.name, title=found.title, notes=tuple(told), fingerprint=digest.hexdigest()[:16])
    return StreamedImages(kept, facts, preparation, origin=origin, num_workers=num_workers)


def _require_two(class_names: tuple[str, ...], name: str, num_images: int) -> None:
    if len(class_names) < 2:
        what = f"{class_names[0]!r}, {counted(num_images, 'image')}" if class_names else "none"
        raise DataError(
            f"{name} has one class only ({what}), and nothing can be learned from it. Expected at least two: "
            "a folder, a word or a number each."
        )


def _indexed(images: ImageSet) -> IndexedImages:
    if isinstance(images, ShardedImages):
        return ListedImages(images)
    if not isinstance(images, IndexedImages):
        raise ConfigError(f"{images.name} can be evaluated, but not trained on.")
    return images


def _are_small(splits: Mapping[str, ShardedImages]) -> bool:
    sizes = [images.num_bytes for images in splits.values()]
    return sum(size or 0 for size in sizes) <= LISTED_BYTES if all(size is not None for size in sizes) else False
