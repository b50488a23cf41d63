"""What a model sees in images, one after the other."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from metaformer.core.errors import ConfigError
from metaformer.data.decode.image_batches import ImageBatch, read_batches
from metaformer.data.decode.image_file import IMAGE_SUFFIXES
from metaformer.data.decode.image_url import ImageUrl, is_image_url
from metaformer.data.image_set import Sample
from metaformer.data.walk import Walk
from metaformer.deploy.classifier import Classifier, scorer

NOT_NUMBERS = "the model's scores are not finite numbers"


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class that an image may show."""

    index: int
    name: str
    probability: float  # 0 to 1


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The likeliest classes of an image, the best first; or why there are none."""

    image: str
    guesses: tuple[Guess, ...] = ()
    error: str | None = None


def predict(
    classifier: Classifier,
    images: Iterable[str | Path],
    *,
    top_k: int = 5,
    batch_size: int = 32,
    precision: str = "32-true",
    crop_fraction: float | None = None,
    num_threads: int | None = None,
    fast: bool = True,
) -> Iterator[Prediction]:
    """Classifies images, in their order; one that cannot be read does not stop the rest.

    Args:
        classifier: From `open_classifier`.
        images: Files, addresses (http, https), and folders, of which all images are taken; links are followed. Read as
            they are needed: any number fits in memory.
        top_k: How many classes an image.
        batch_size: Images at once.
        precision: 32-true, bf16-mixed or 16-mixed.
        crop_fraction: If not the model's own.
        num_threads: That read images; None: one a core.
        fast: Run the fastest form of the model that gives the same scores.

    Raises:
        ConfigError: A setting cannot work.
    """
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1; got {top_k}.")
    score = scorer(classifier.model, precision, fast=fast)
    transform = classifier.transform(crop_fraction=crop_fraction)
    samples = (Sample(name=_name_of(image), image=image) for image in find_images(images))
    for batch in read_batches(samples, transform, batch_size=batch_size, num_threads=num_threads):
        guesses: list[tuple[Guess, ...]] = []
        if len(batch.pixels):
            scores = score(transform.normalise(batch.pixels))
            guesses = _guesses(classifier, scores, min(top_k, scores.shape[1]))
        yield from _in_order(batch, guesses)


def find_images(words: Iterable[str | Path]) -> Iterator[Path | ImageUrl]:
    """The files and addresses named, and all images in the folders named and in those below, in the order of names."""
    for word in words:
        if isinstance(word, str) and is_image_url(word):
            yield ImageUrl(word)
        # Not Path.is_dir, which fails on a name that is too long.
        elif os.path.isdir(word):  # noqa: PTH112
            files = Walk(word, IMAGE_SUFFIXES, keep_special=True).files()
            yield from (Path(word, name) for name in files)
        else:
            yield Path(word)


def _guesses(classifier: Classifier, scores: torch.Tensor, top_k: int) -> list[tuple[Guess, ...]]:
    """The likeliest classes of each image; none where a score is no number."""
    best = scores.softmax(dim=1).topk(top_k, dim=1)
    rows = zip(best.values.tolist(), best.indices.tolist(), scores.isfinite().all(dim=1).tolist(), strict=True)
    return [
        tuple(
            Guess(index=index, name=classifier.name_of(index), probability=probability)
            for index, probability in zip(indices, values, strict=True)
            if is_finite
        )
        for values, indices, is_finite in rows
    ]


def _in_order(batch: ImageBatch, guesses: list[tuple[Guess, ...]]) -> Iterator[Prediction]:
    of_readable = iter(guesses)
    for sample, error in zip(batch.samples, batch.errors, strict=True):
        guessed = () if error is not None else next(of_readable)
        yield Prediction(image=sample.name, guesses=guessed, error=error if error or guessed else NOT_NUMBERS)


def _name_of(image: Path | ImageUrl) -> str:
    """As text that can be encoded, whatever bytes the name has."""
    return image.address if isinstance(image, ImageUrl) else os.fsencode(image).decode("utf-8", "backslashreplace")
