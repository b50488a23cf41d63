"""The run record of an evaluation, and its confusion matrix as a table."""

import hashlib
from pathlib import Path
from typing import Any

from metaformer.core.atomic_write import write_text
from metaformer.core.configs import to_dict
from metaformer.core.measurement import numbers
from metaformer.core.printable import printable
from metaformer.core.records import Evaluation, Recorder, UnreadableImage
from metaformer.deploy.classifier import Classifier
from metaformer.deploy.evaluation import ImageEvaluation
from metaformer.models.weights import WEIGHTS_FILE
from metaformer.models.weights.download import fetch

CONFUSION_FILE = "confusion.csv"


def write_evaluation(
    result: ImageEvaluation, classifier: Classifier, folder: Path, recorder: Recorder[Evaluation]
) -> Path:
    """Writes run.json and confusion.csv; returns the path of the first.

    Args:
        result: What was measured.
        classifier: On what model.
        folder: Made if it is not there.
        recorder: Has timed it, and knows the settings and the command.
    """
    write_text(folder / CONFUSION_FILE, result.confusion.as_csv(lambda index: printable(classifier.name_of(index))))
    of_class = result.confusion.of_class.tolist()
    # JSON has no number for the loss of scores that are none.
    (loss,) = numbers([result.loss])
    recorder.result = Evaluation(
        top1_percent=result.top1,
        top5_percent=result.top5,
        loss=loss,
        num_images=result.num_images,
        num_without_scores=result.sums.num_without_scores,
        images_per_second=result.images_per_second,
        model_images_per_second=result.model_images_per_second,
        class_names=tuple(classifier.class_names),
        class_note=result.class_note,
        per_class_accuracy_percent=tuple(
            share if num else None for share, num in zip(result.sums.per_class_accuracy, of_class, strict=True)
        ),
        confusion_file=CONFUSION_FILE,
        num_unreadable=len(result.unreadable),
        unreadable=tuple(UnreadableImage(name=printable(name), reason=reason) for name, reason in result.unreadable),
    )
    return recorder.finish().write(folder)


def settings_of(classifier: Classifier) -> dict[str, Any]:
    """The model and its weights, as a record says them."""
    weights = {"source": classifier.weights, "sha256": _sha256(classifier.weights)}
    return {"model": to_dict(classifier.model.config), "weights": weights}


def _sha256(weights: str) -> str | None:
    path = fetch(weights) if weights else None
    path = path / WEIGHTS_FILE if path and path.is_dir() else path
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
