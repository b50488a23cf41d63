"""What a format finds at a place, before anything is read: the same for training and for evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from metaformer.core.errors import DataError
from metaformer.data.classes import NAMES, NUMBERS, Agreement, SplitLabels, agree_on_classes, clean_label, read_split
from metaformer.data.image_set import ImageSet, IndexedImages, Sample, ShardedImages
from metaformer.data.notes import Note
from metaformer.data.split_names import choose_split

LOOKED_AT = 100  # images of a stream; where none has a label, none of all has


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Labelled images in up to three splits, each opened when it is wanted."""

    title: str
    splits: Mapping[str, Callable[[], ImageSet]]  # "train", "validation", "test" -> opens it
    notes: tuple[Note, ...] = ()
    name: str = ""  # as the user wrote it


class SplitImages(ImageSet):
    """One split, its labels in the order of its own classes; of a stream, as they are."""

    def __init__(self, images: ImageSet, agreement: Agreement | None, notes: Sequence[Note]) -> None:
        self._images, self.name, self.num_images = images, images.name, images.num_images
        self.class_names = images.class_names
        self.order_is_by_name, self.notes = images.order_is_by_name, (*notes, *images.notes)
        self._place_of: dict[str, int] = {}
        # Numbers without names are the model's business.
        if agreement and agreement.origin != NUMBERS:
            self.notes += agreement.notes
        if agreement and agreement.origin == NAMES:
            self.class_names, self.order_is_by_name = agreement.class_names, True
            self._place_of = {name: place for place, name in enumerate(agreement.class_names)}

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._images:
            label = clean_label(sample.label, sample.name)
            if isinstance(label, str):
                place = self._place_of.get(label, int(label) if label.isdecimal() else None)
                if place is None:
                    raise DataError(f"{sample.name} has the class {label!r}, and a stream does not list its classes.")
                label = place
            yield replace(sample, label=label)


def choose_images(found: Found, split: str | None) -> SplitImages:
    """The split to evaluate on: the one asked for, else the first with labels of test, validation and train.

    Raises:
        ConfigError: There is no such split.
        DataError: It cannot be read, or has no labels.
    """
    if split is not None or len(found.splits) == 1:
        known = [] if [*found.splits] == ["train"] and split != "train" and split is not None else [*found.splits]
        name = choose_split(known, split, where=found.name)
        return _open(found, name)
    told: list[Note] = []
    *others, last = (name for name in ("test", "validation", "train") if name in found.splits)
    for name in others:
        try:
            images = _open(found, name)
        except NoLabelsError as error:
            told.append(error.note)
            continue
        images.notes = (*told, *images.notes)
        return images
    images = _open(found, last)
    images.notes = (*told, *images.notes)
    return images


class NoLabelsError(DataError):
    """None of a split's images has a label."""

    def __init__(self, name: str, split: str, num_images: int) -> None:
        super().__init__(f"{name}: none of the {num_images:,} images has a label. Choose another --split.")
        self.note = Note(
            text=f"The {split} split has no labels and is left out ({num_images:,} images).", count=num_images
        )


def _open(found: Found, split: str) -> SplitImages:
    images = found.splits[split]()
    labels = labels_of(images)
    if labels is None:
        num_without = looks_unlabelled(images)
        if num_without:
            raise NoLabelsError(images.name, split, images.num_images or num_without)
        return SplitImages(images, None, found.notes)
    if labels.is_unlabelled:
        raise NoLabelsError(images.name, split, len(labels.codes))
    return SplitImages(images, agree_on_classes({split: labels}, reference=split), found.notes)


def labels_of(images: ImageSet) -> SplitLabels | None:
    """The labels of a split; None of a stream that would have to be read for it."""
    if isinstance(images, IndexedImages):
        raw, name_of = images.read_labels(), lambda index: images[index].name
    elif isinstance(images, ShardedImages) and (index := images.read_index()) is not None:
        raw, name_of = index.labels, index.names.__getitem__
    else:
        return None
    return read_split(
        raw,
        class_names=images.class_names,
        order_is_by_name=images.order_is_by_name,
        name_of=name_of,
        where=images.name,
    )


def looks_unlabelled(images: ImageSet) -> int:
    """How many images of a stream were looked at, if none of them has a label; 0 if one has."""
    num = 0
    for sample in images:
        if clean_label(sample.label, sample.name) is not None:
            return 0
        num += 1
        if num == LOOKED_AT:
            break
    return num
