"""Which images are for training, which for choosing and which for the test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.core.errors import ConfigError, DataError, did_you_mean
from metaformer.data.class_shares import interleave_classes
from metaformer.data.image_set import IndexedImages, Sample
from metaformer.data.preparation import Preparation

# Never the seed of a run: all runs choose and are compared by the same images.
HELD_OUT_KEY, SUBSET_KEY = "held-out images", "subset of training images"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePart:
    """Some of a set's images, with their labels in the order of the training classes."""

    images: IndexedImages
    indices: Int64[Tensor, " n"]  # rising
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, place: int) -> Sample:
        """The image at a place of this part."""
        read = self.images[int(self.indices[place])]
        return Sample(name=read.name, image=read.image, label=int(self.labels[place]))

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(place) for place in range(len(self)))

    def choose(self, places: Int64[Tensor, " k"]) -> "ImagePart":
        """A part of this part, in the same order."""
        places = places.sort().values
        return ImagePart(images=self.images, indices=self.indices[places], labels=self.labels[places])


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSplits:
    """The three parts of a data set; no image is in two."""

    train: ImagePart
    validation: ImagePart
    test: ImagePart | None
    class_names: tuple[str, ...]
    description: str  # how the splits were made, in a sentence or two


def split_images(found: Mapping[str, IndexedImages], preparation: Preparation, *, name: str) -> ImageSplits:
    """Makes the three parts of what a source has.

    Args:
        found: Its own splits, by our names; one without splits is all "train".
        preparation: Says how much to hold out, and how many training images to take.
        name: Of the source, for messages.

    Raises:
        ConfigError: There is no training split, or too few images to hold some out.
        DataError: An image has no label, or one outside the classes.
    """
    if "train" not in found:
        raise ConfigError(f"{name} has no training split to train on; it has: {', '.join(found)}.")
    class_names = class_names_of(found)
    parts = {split: _whole(images, class_names) for split, images in found.items()}
    train, told = parts["train"], []
    if "validation" in parts:
        validation = parts["validation"]
        told.append(f"{len(train):,} images for training and {len(validation):,} for validation, as the source has it.")
    else:
        train, validation = _hold_out(train, preparation.validation_fraction, name)
        told.append(
            f"{len(validation):,} of {len(train) + len(validation):,} training images are held out for validation, "
            "chosen by a fixed key, every class with its share."
        )
    test = parts.get("test")
    told.append(f"The test split ({len(test):,} images) is the source's own." if test else "There is no test split.")
    limit = preparation.max_train_images
    if limit is not None and limit < len(train):
        told.append(f"Of the {len(train):,} training images a fixed subset of {limit:,} is used.")
        train = train.choose(interleave_classes(train.labels, SUBSET_KEY)[:limit])
    return ImageSplits(
        train=train, validation=validation, test=test, class_names=class_names, description=" ".join(told)
    )


def class_names_of(found: Mapping[str, IndexedImages]) -> tuple[str, ...]:
    """The classes of the training images: their names, or numbers where they have none."""
    train = found["train"]
    if train.class_names:
        return train.class_names
    labels = [images.read_labels() for images in found.values()]
    highest = max((int(some.max()) for some in labels if len(some)), default=-1)
    return tuple(str(label) for label in range(highest + 1))


def translate_labels(images: IndexedImages, class_names: tuple[str, ...]) -> Int64[Tensor, " n"]:
    """The labels of a split in the order of the training classes.

    Raises:
        DataError: A class is not among them.
    """
    labels = images.read_labels()
    strange = [name for name in images.class_names if name not in class_names]
    if strange:
        raise DataError(
            f"{images.name} has the class {strange[0]!r}, which the training images lack."
            f"{did_you_mean(strange[0], class_names)}"
        )
    num_own = len(images.class_names) or len(class_names)
    outside = ((labels < 0) | (labels >= num_own)).nonzero().flatten()
    if len(outside):
        sample = images[int(outside[0])]
        raise DataError(f"{sample.name} has the label {sample.label}; the classes are 0 to {num_own - 1}.")
    if not images.class_names:
        return labels
    return torch.tensor([class_names.index(own) for own in images.class_names])[labels]


def _whole(images: IndexedImages, class_names: tuple[str, ...]) -> ImagePart:
    labels = translate_labels(images, class_names)
    if not len(labels):
        raise DataError(f"{images.name} holds no images.")
    return ImagePart(images=images, indices=torch.arange(len(labels)), labels=labels)


def _hold_out(train: ImagePart, fraction: float, name: str) -> tuple[ImagePart, ImagePart]:
    num_held_out = max(1, round(fraction * len(train)))
    if num_held_out >= len(train):
        raise ConfigError(
            f"preparation.validation_fraction {fraction:g} leaves none of the {len(train)} images of {name} to train "
            "on. Give more images or a smaller fraction."
        )
    order = interleave_classes(train.labels, HELD_OUT_KEY)
    return train.choose(order[num_held_out:]), train.choose(order[:num_held_out])
