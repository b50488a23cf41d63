"""The run record of an evaluation, and its confusion matrix as a table."""

import hashlib
import math
from datetime import datetime
from pathlib import Path
from typing import Any

from metaformer.core.atomic_write import write_text
from metaformer.core.configs import to_dict
from metaformer.core.machine import provenance
from metaformer.core.printable import printable
from metaformer.core.run_record import Metric, RunRecord
from metaformer.deploy.classifier import Classifier
from metaformer.deploy.evaluation import ImageEvaluation
from metaformer.models.weights import WEIGHTS_FILE
from metaformer.models.weights.download import fetch

CONFUSION_FILE = "confusion.csv"


def write_evaluation(
    result: ImageEvaluation,
    classifier: Classifier,
    folder: Path,
    *,
    settings: dict[str, Any],
    command: str,
    started: datetime,
    wall_time_s: float,
) -> Path:
    """Writes run.json and confusion.csv; returns the path of the first.

    Args:
        result: What was measured.
        classifier: On what model.
        folder: Made if it is not there.
        settings: What else decides the result: data, split, precision, ...
        command: The command that measures it again.
        started: When.
        wall_time_s: How long it took, loading included.
    """
    write_text(folder / CONFUSION_FILE, result.confusion.as_csv(lambda index: printable(classifier.name_of(index))))
    of_class = result.confusion.of_class.tolist()
    weights = {"source": classifier.weights, "sha256": _sha256(classifier.weights)}
    return RunRecord(
        kind="evaluate",
        name=classifier.name,
        command=command,
        config={"model": to_dict(classifier.model.config), "weights": weights} | settings,
        seed=None,
        metrics=_metrics(result),
        labels={
            "class_names": list(classifier.class_names),
            "class_order": result.class_note,
            # A class without images has no accuracy.
            "per_class_accuracy": [
                share if num else None for share, num in zip(result.sums.per_class_accuracy, of_class, strict=True)
            ],
            "confusion": CONFUSION_FILE,
            "unreadable": [[printable(name), reason] for name, reason in result.unreadable],
        },
        **provenance(started),
        wall_time_s=wall_time_s,
    ).write(folder)


def _metrics(result: ImageEvaluation) -> dict[str, Metric]:
    metrics = {
        "top1_accuracy": Metric(value=result.top1, unit="%"),
        "loss": Metric(value=result.loss, unit="nats"),
        "num_images": Metric(value=float(result.num_images), unit="images"),
        "num_unreadable": Metric(value=float(len(result.unreadable)), unit="images"),
        "num_without_scores": Metric(value=float(result.sums.num_without_scores), unit="images"),
        "images_per_second": Metric(value=result.images_per_second, unit="images/s"),
        "model_images_per_second": Metric(value=result.model_images_per_second, unit="images/s"),
    }
    if result.top5 is not None:
        metrics["top5_accuracy"] = Metric(value=result.top5, unit="%")
    # JSON has no number for the loss of scores that are none.
    return {name: metric for name, metric in metrics.items() if math.isfinite(metric.value)}


def _sha256(weights: str) -> str | None:
    path = fetch(weights) if weights else None
    path = path / WEIGHTS_FILE if path and path.is_dir() else path
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
