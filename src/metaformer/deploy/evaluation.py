"""How well a trained model classifies labelled images, read one after the other."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.class_order import ClassMap, ClassOrder, match_classes
from metaformer.data.decode.image_batches import read_batches
from metaformer.data.image_set import ImageSet
from metaformer.data.source import DataSource
from metaformer.deploy.classifier import IMAGENET_CLASSES, Classifier, imagenet_synsets, renormalise, scorer
from metaformer.deploy.confusion import Confusion
from metaformer.train.evaluation import ClassSums, Evaluation

Z_95 = 1.96  # standard deviations, to each side


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageEvaluation:
    """Accuracy, loss and confusion over the images that could be read."""

    sums: Evaluation
    confusion: Confusion  # of the images that have scores
    unreadable: tuple[tuple[str, str], ...]  # names and reasons
    images_per_second: float  # from the first file to the last answer
    model_images_per_second: float  # of the model alone, without the first batch if there are more
    class_note: str = ""  # how the data's classes and the model's were matched

    @property
    def num_images(self) -> int:
        """That could be read."""
        return self.sums.num_images

    @property
    def top1(self) -> float:
        """Accuracy, in percent."""
        return self.sums.accuracy

    @property
    def top5(self) -> float | None:
        """In percent; None where five classes are all."""
        return self.sums.top5

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return self.sums.loss

    @property
    def top1_interval(self) -> tuple[float, float]:
        """Where top-1 lies with 95% confidence, had other images of the same kind been drawn; Wilson's interval."""
        share, num = self.top1 / 100, self.num_images
        spread = Z_95 * math.sqrt(share * (1 - share) / num + Z_95**2 / (4 * num**2))
        low, high = ((share + Z_95**2 / (2 * num) + side * spread) / (1 + Z_95**2 / num) for side in (-1, 1))
        # At the ends rounding would leave 0 to 100.
        return max(0.0, 100 * low), min(100.0, 100 * high)

    @property
    def is_complete(self) -> bool:
        """Whether every image could be read and has scores."""
        return not self.unreadable and not self.sums.num_without_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    inputs: Tensor
    labels: Tensor
    unreadable: tuple[tuple[str, str], ...] = ()


def evaluate_images(
    classifier: Classifier,
    images: ImageSet,
    *,
    class_map: ClassMap | None = None,
    batch_size: int = 64,
    precision: str = "32-true",
    mirror: bool = False,
    fast: bool = True,
    crop_fraction: float | None = None,
    num_threads: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> ImageEvaluation:
    """Runs a model over labelled images; those that cannot be read are named and not counted.

    Args:
        classifier: From `open_classifier`.
        images: From `open_images`.
        class_map: The data's classes -> the model's, where their names do not tell.
        batch_size: Images at once.
        precision: 32-true, bf16-mixed or 16-mixed.
        mirror: The mean of the scores of each image and of its mirror image.
        fast: Run the fastest form of the model that gives the same scores.
        crop_fraction: If not the model's own.
        num_threads: That read images; None: one a core.
        watch: Called after each batch with the number of images done, and of those that could not be read.

    Raises:
        ConfigError: The data's classes are not the model's, or a setting cannot work.
        DataError: No image can be read, or a label is none of the model's.
    """
    order = _order(classifier, images, class_map)
    transform = classifier.transform(crop_fraction=crop_fraction)

    def batches() -> Iterator[_Batch]:
        for batch in read_batches(images, transform, batch_size=batch_size, num_threads=num_threads):
            labels = [_label(sample.label, order, classifier, sample.name) for sample in batch.readable]
            yield _Batch(
                inputs=transform.normalise(batch.pixels),
                labels=torch.tensor(labels, dtype=torch.int64),
                unreadable=batch.unreadable,
            )

    score = scorer(classifier.model, precision, mirror=mirror, fast=fast, num_images=images.num_images)
    return _measure(classifier, score, batches(), order.note, watch, images.name)


def evaluate_source(
    classifier: Classifier,
    data: DataSource,
    *,
    split: str = "test",
    batch_size: int = 250,
    precision: str = "32-true",
    mirror: bool = False,
    fast: bool = True,
    watch: Callable[[int, int], None] | None = None,
) -> ImageEvaluation:
    """The same on data that lie in memory, as training sees them.

    Raises:
        ConfigError: The model takes other images or has other classes, or there is no such split.
    """
    facts, config = data.facts, classifier.model.config
    if (config.in_chans, *config.image_size) != (facts.in_chans, *facts.image_size):
        raise ConfigError(
            f"the model takes images of {_shape(config.in_chans, config.image_size)}; {facts.name} has "
            f"{_shape(facts.in_chans, facts.image_size)}."
        )
    if split not in ("test", "validation"):
        raise ConfigError(f"split must be test or validation for {facts.name}; got {split!r}.")
    if split == "test" and not facts.num_test:
        raise ConfigError(f"{facts.name} has no test split. Take its validation split.")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}.")
    order = match_classes(facts.class_names, classifier.class_names, config.num_classes, order_is_by_name=False)
    batches = (
        _Batch(
            inputs=renormalise(images, facts.model_input.preprocessing, config.preprocessing),
            labels=torch.tensor(order.index)[labels],
        )
        for images, labels in data.evaluation_batches(split, batch_size=batch_size)
    )
    score = scorer(classifier.model, precision, mirror=mirror, fast=fast)
    return _measure(classifier, score, batches, order.note, watch, facts.name)


def _measure(
    classifier: Classifier,
    score: Callable[[Tensor], Tensor],
    batches: Iterable[_Batch],
    note: str,
    watch: Callable[[int, int], None] | None,
    name: str,
) -> ImageEvaluation:
    sums = ClassSums()
    # One pair of classes an image: a cell for each pair would be gigabytes where there are many classes.
    true: list[Tensor] = []
    predicted: list[Tensor] = []
    unreadable: list[tuple[str, str]] = []
    num_images = 0
    speeds: list[tuple[int, float]] = []
    started = time.perf_counter()
    for batch in batches:
        unreadable += batch.unreadable
        if len(batch.labels):
            before = time.perf_counter()
            scores = score(batch.inputs).cpu()
            speeds.append((len(scores), time.perf_counter() - before))
            sums.add(scores, batch.labels)
            is_finite = scores.isfinite().all(dim=1)
            true.append(batch.labels[is_finite])
            predicted.append(scores[is_finite].argmax(dim=1))
            num_images += len(batch.labels)
        if watch:
            watch(num_images + len(unreadable), len(unreadable))
    seconds = time.perf_counter() - started
    if not num_images:
        first = f": {unreadable[0][0]}: {unreadable[0][1]}" if unreadable else ""
        raise DataError(f"none of the {len(unreadable)} images of {name} can be read{first}.")
    return ImageEvaluation(
        sums=sums.result(),
        confusion=Confusion.of(torch.cat(true), torch.cat(predicted), num_classes=classifier.model.config.num_classes),
        unreadable=tuple(unreadable),
        images_per_second=num_images / seconds,
        model_images_per_second=_speed(speeds),
        class_note=note,
    )


def _speed(batches: list[tuple[int, float]]) -> float:
    """Images a second. The first batch also pays for what is made once: kernels chosen, memory taken."""
    counted = batches[1:] or batches
    return sum(num for num, _ in counted) / sum(seconds for _, seconds in counted)


def _order(classifier: Classifier, images: ImageSet, class_map: ClassMap | None) -> ClassOrder:
    names, num_classes = classifier.class_names, classifier.model.config.num_classes
    if not names and num_classes == IMAGENET_CLASSES and images.class_names:
        synsets = imagenet_synsets()
        names = synsets if {*images.class_names} <= {*synsets} else ()
    return match_classes(
        images.class_names, names, num_classes, class_map=class_map, order_is_by_name=images.order_is_by_name
    )


def _label(label: object, order: ClassOrder, classifier: Classifier, name: str) -> int:
    known = len(order.index) or classifier.model.config.num_classes
    if not isinstance(label, int) or not 0 <= label < known:
        raise DataError(f"{name} has the label {label}; expected 0 to {known - 1}.")
    return order.index[label] if order.index else label


def _shape(in_chans: int, image_size: tuple[int, ...]) -> str:
    return "x".join(map(str, (in_chans, *image_size)))
