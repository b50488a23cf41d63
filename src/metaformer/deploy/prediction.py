"""What a model sees in images, one after the other."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from metaformer.core.errors import ConfigError
from metaformer.data.decode.image_batches import ImageBatch, read_batches
from metaformer.data.decode.image_file import IMAGE_SUFFIXES
from metaformer.data.image_set import Sample
from metaformer.deploy.classifier import Classifier, scorer


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class that an image may show."""

    index: int
    name: str
    probability: float  # 0 to 1


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The likeliest classes of an image, the best first; or why it could not be read."""

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
) -> Iterator[Prediction]:
    """Classifies images, in their order; one that cannot be read does not stop the rest.

    Args:
        classifier: From `open_classifier`.
        images: Files, and folders, of which all images are taken. Read as they are needed: any number fits in memory.
        top_k: How many classes an image.
        batch_size: Images at once.
        precision: 32-true, bf16-mixed or 16-mixed.
        crop_fraction: If not the model's own.
        num_threads: That read images; None: one a core.

    Raises:
        ConfigError: A setting cannot work.
    """
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1; got {top_k}.")
    score = scorer(classifier.model, precision)
    transform = classifier.transform(crop_fraction=crop_fraction)
    samples = (Sample(name=_printable(path), image=path) for path in find_images(images))
    for batch in read_batches(samples, transform, batch_size=batch_size, num_threads=num_threads):
        guesses: list[tuple[Guess, ...]] = []
        if len(batch.pixels):
            scores = score(transform.normalise(batch.pixels))
            best = scores.softmax(dim=1).topk(min(top_k, scores.shape[1]), dim=1)
            guesses = _guesses(classifier, best.values, best.indices)
        yield from _in_order(batch, guesses)


def find_images(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The files named, and all images in the folders named and in those below, each folder in the order of names."""
    for path in map(Path, paths):
        if path.is_dir():
            yield from _images_under(path)
        else:
            yield path


def _images_under(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(parent, name)


def _guesses(classifier: Classifier, values: torch.Tensor, indices: torch.Tensor) -> list[tuple[Guess, ...]]:
    return [
        tuple(
            Guess(index=index, name=classifier.name_of(index), probability=probability)
            for index, probability in zip(row_indices, row_values, strict=True)
        )
        for row_values, row_indices in zip(values.tolist(), indices.tolist(), strict=True)
    ]


def _in_order(batch: ImageBatch, guesses: list[tuple[Guess, ...]]) -> Iterator[Prediction]:
    of_readable = iter(guesses)
    for sample, error in zip(batch.samples, batch.errors, strict=True):
        guessed = () if error is not None else next(of_readable)
        yield Prediction(image=sample.name, guesses=guessed, error=error)


def _printable(path: Path) -> str:
    """The path as text that can be encoded, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "replace")
