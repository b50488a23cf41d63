"""The run record of an evaluation, and its confusion matrix as a table."""

import csv
import hashlib
import io
from datetime import datetime
from pathlib import Path
from typing import Any

from metaformer.core.atomic_write import write_text
from metaformer.core.configs import to_dict
from metaformer.core.machine import provenance
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
    write_text(folder / CONFUSION_FILE, _confusion(result, classifier))
    right, of_class = result.confusion.diagonal(), result.confusion.sum(dim=1)
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
                100 * hits / num if num else None for hits, num in zip(right.tolist(), of_class.tolist(), strict=True)
            ],
            "confusion": CONFUSION_FILE,
            "unreadable": [list(pair) for pair in result.unreadable],
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
        "images_per_second": Metric(value=result.images_per_second, unit="images/s"),
        "model_images_per_second": Metric(value=result.model_images_per_second, unit="images/s"),
    }
    return metrics if result.top5 is None else metrics | {"top5_accuracy": Metric(value=result.top5, unit="%")}


def _confusion(result: ImageEvaluation, classifier: Classifier) -> str:
    names = [classifier.name_of(index) for index in range(len(result.confusion))]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["true \\ predicted", *names])
    rows.writerows([name, *row] for name, row in zip(names, result.confusion.tolist(), strict=True))
    return text.getvalue()


def _sha256(weights: str) -> str | None:
    path = fetch(weights) if weights else None
    path = path / WEIGHTS_FILE if path and path.is_dir() else path
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
