"""Which images are for training, which for choosing and which for the test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.core.errors import ConfigError
from metaformer.data.class_shares import interleave_classes
from metaformer.data.classes import Agreement
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


def split_images(
    found: Mapping[str, IndexedImages], agreement: Agreement, preparation: Preparation, *, name: str
) -> ImageSplits:
    """Makes the three parts of what a source has.

    Args:
        found: Its own splits, by our names; one without splits is all "train".
        agreement: Their classes and labels; a split without labels is none.
        preparation: Says how much to hold out, and how many training images to take.
        name: Of the source, for messages.

    Raises:
        ConfigError: There are too few images to hold some out.
    """
    parts = {
        split: ImagePart(images=found[split], indices=torch.arange(len(labels)), labels=labels)
        for split, labels in agreement.labels.items()
    }
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
        train=train, validation=validation, test=test, class_names=agreement.class_names, description=" ".join(told)
    )


def _hold_out(train: ImagePart, fraction: float, name: str) -> tuple[ImagePart, ImagePart]:
    num_held_out = max(1, round(fraction * len(train)))
    if num_held_out >= len(train):
        raise ConfigError(
            f"preparation.validation_fraction {fraction:g} leaves none of the {len(train)} images of {name} to train "
            "on. Give more images or a smaller fraction."
        )
    order = interleave_classes(train.labels, HELD_OUT_KEY)
    return train.choose(order[num_held_out:]), train.choose(order[:num_held_out])
