"""`metaformer predict`: what trained weights see in images."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro

from metaformer.core.errors import ConfigError, DataError, did_you_mean
from metaformer.core.printable import printable
from metaformer.data.class_order import read_class_names
from metaformer.data.decode.image_file import IMAGE_SUFFIXES
from metaformer.data.decode.image_url import is_image_url
from metaformer.deploy.classifier import Classifier, imagenet_names, is_weights, open_classifier
from metaformer.deploy.prediction import NOT_NUMBERS, Prediction
from metaformer.deploy.prediction import predict as predictions_of
from metaformer.deploy.prediction_text import lines_of
from metaformer.models.zoo import ZOO

STDIN = "-"


def predict(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "",
    images: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGES")] = (),
    /,
    *,
    weights: str = "",
    top_k: int = 5,
    format: str = "table",
    class_names: Path | None = None,
    image_size: tuple[int, int] | None = None,
    crop_fraction: float | None = None,
    batch_size: int = 32,
    precision: str = "32-true",
    device: str = "auto",
    threads: int | None = None,
    fast: bool = True,
) -> int:
    """Classifies images: files, folders (all images in them and below), or file names from stdin.

    metaformer predict poolformer_s12 --weights FILE photo.jpg holiday/
    find . -name '*.jpg' | metaformer predict runs/mine --format jsonl -

    Images that cannot be read are named on stderr, and in the JSON lines and CSV; the rest still run. Exit codes: 0
    done; 1 some images could not be read, or have scores that are no numbers; 2 the request was wrong.

    Args:
        name: A model of the zoo; may be left out where the weights say which. Or a run folder, instead of --weights.
        images: Files, addresses (https://...) and folders; - reads them from stdin, one a line.
        weights: A file of any known layout, a run folder, a URL or a hub id (hf://owner/name).
        top_k: Classes an image.
        format: table, jsonl or csv.
        class_names: Names of the model's classes, where the weights have none. Text: one a line. JSON: a list, or an
            object from index to name.
        image_size: Side, or height and width, in pixels; the model's own if not given.
        crop_fraction: Of the resized image's side that the centre crop keeps; the model's own if not given.
        batch_size: Images at once.
        precision: 32-true, bf16-mixed or 16-mixed.
        device: auto, cpu, cuda, ...
        threads: That read images; one a core if not given.
        fast: Run the fastest form of the model that gives the same scores.
    """
    # What costs nothing to check comes before the weights are read.
    lines_of((), format)
    model_name, given = _split_words(name, images, weights)
    classifier = open_classifier(model_name, weights or None, image_size=image_size, device=device)
    tally = _Tally()
    predictions = predictions_of(
        _named(classifier, class_names),
        _paths(given),
        top_k=top_k,
        batch_size=batch_size,
        precision=precision,
        crop_fraction=crop_fraction,
        num_threads=threads,
        fast=fast,
    )
    # Nothing is printed before it is known that there is something to print.
    first = next(predictions, None)
    if first is None:
        raise DataError(
            f"no images in {', '.join(given)}. Suffixes taken in folders: {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    for line in lines_of(tally.watch(chain([first], predictions)), format):
        print(line, flush=sys.stdout.isatty())
    sys.stdout.flush()
    print(tally, file=sys.stderr)
    return 1 if tally.num_unreadable + tally.num_without_scores else 0


class _Tally:
    """Counts images as they pass, and names those that could not be read."""

    def __init__(self) -> None:
        self.num_images = self.num_unreadable = self.num_without_scores = 0
        self.started = time.perf_counter()

    def watch(self, predictions: Iterator[Prediction]) -> Iterator[Prediction]:
        for prediction in predictions:
            self.num_images += 1
            if prediction.error is not None:
                has_scores = prediction.error == NOT_NUMBERS
                self.num_unreadable += not has_scores
                self.num_without_scores += has_scores
                what = "no answer for" if has_scores else "cannot read"
                print(f"{what} {printable(prediction.image)}: {prediction.error}", file=sys.stderr)
            yield prediction

    def __str__(self) -> str:
        speed = self.num_images / (time.perf_counter() - self.started)
        unreadable = f", {self.num_unreadable} could not be read" if self.num_unreadable else ""
        without = f", {self.num_without_scores} have no scores" if self.num_without_scores else ""
        return f"{self.num_images:,} images{unreadable}{without}, {speed:,.0f} images/s"


def _split_words(name: str, images: tuple[str, ...], weights: str) -> tuple[str | None, tuple[str, ...]]:
    """Which of the words is the model, if one is, and which are images."""
    is_model = name in ZOO or (not weights and (is_weights(name) or not _is_image(name)))
    # With weights, a first word that is neither a model nor anything on the disk is a model's name misspelt.
    if name and weights and not is_model and not _is_image(name):
        raise ConfigError(f"{name!r} is neither a model nor an image.{did_you_mean(name, ZOO)} See: metaformer models")
    given = images if is_model or not name else (name, *images)
    if not given:
        raise ConfigError("no images: name files or folders, or - for names from stdin.")
    return (name or None) if is_model else None, given


def _is_image(word: str) -> bool:
    is_named = word == STDIN or is_image_url(word) or Path(word).suffix.lower() in IMAGE_SUFFIXES
    # Not Path.exists, which fails on a name that is too long.
    return is_named or os.path.exists(word)  # noqa: PTH110


def _paths(words: tuple[str, ...]) -> Iterator[str]:
    for word in words:
        if word == STDIN:
            # As bytes, whatever the terminal's encoding: names of files are no text.
            yield from (os.fsdecode(line) for line in map(_without_end, sys.stdin.buffer) if line)
        else:
            yield word


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _named(classifier: Classifier, file: Path | None) -> Classifier:
    if file is not None:
        return replace(classifier, class_names=read_class_names(file, classifier.model.config.num_classes))
    named = imagenet_names(classifier)
    if named is not classifier:
        print("note: the weights name no classes; a thousand are taken to be ImageNet-1k's", file=sys.stderr)
    elif not named.class_names:
        print("note: the weights name no classes, so their numbers stand for them; see --class-names", file=sys.stderr)
    return named
