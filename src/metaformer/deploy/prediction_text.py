"""Predictions as a table for people, JSON lines or CSV."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator

from metaformer.core.errors import unknown
from metaformer.core.printable import printable
from metaformer.deploy.prediction import Prediction

IMAGE_WIDTH = 40  # columns; a longer name keeps its end
CSV_COLUMNS = ("image", "rank", "class", "index", "probability", "error")


def as_table(predictions: Iterable[Prediction]) -> Iterator[str]:
    """A line a class; images that could not be read are left out."""
    yield f"{'image':{IMAGE_WIDTH}}  {'probability':>11}  class"
    for prediction in predictions:
        image = printable(prediction.image)
        image = image if len(image) <= IMAGE_WIDTH else f"...{image[3 - IMAGE_WIDTH :]}"
        for rank, guess in enumerate(prediction.guesses):
            yield f"{'' if rank else image:{IMAGE_WIDTH}}  {100 * guess.probability:10.1f}%  {printable(guess.name)}"


def as_jsonl(predictions: Iterable[Prediction]) -> Iterator[str]:
    """An object a line: {"image", "predictions": [{"class", "index", "probability"}]} or {"image", "error"}."""
    for prediction in predictions:
        if prediction.error is not None:
            yield json.dumps({"image": prediction.image, "error": prediction.error})
            continue
        guesses = [
            {"class": guess.name, "index": guess.index, "probability": round(guess.probability, 6)}
            for guess in prediction.guesses
        ]
        yield json.dumps({"image": prediction.image, "predictions": guesses})


def as_csv(predictions: Iterable[Prediction]) -> Iterator[str]:
    """A row a class; one with an error for an image that could not be read."""
    yield _csv_line(CSV_COLUMNS)
    for prediction in predictions:
        if prediction.error is not None:
            yield _csv_line((printable(prediction.image), "", "", "", "", prediction.error))
        for rank, guess in enumerate(prediction.guesses, start=1):
            yield _csv_line(
                (printable(prediction.image), rank, printable(guess.name), guess.index, f"{guess.probability:.6f}", "")
            )


FORMATS: dict[str, Callable[[Iterable[Prediction]], Iterator[str]]] = {
    "table": as_table,
    "jsonl": as_jsonl,
    "csv": as_csv,
}


def lines_of(predictions: Iterable[Prediction], form: str) -> Iterator[str]:
    """Predictions as lines of text, one after the other.

    Raises:
        ConfigError: The form is unknown.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    return FORMATS[form](predictions)


def _csv_line(values: Iterable[object]) -> str:
    line = io.StringIO()
    # With its end: the writer quotes a cell that contains what ends a line.
    csv.writer(line, lineterminator="\n").writerow(list(values))
    return line.getvalue().removesuffix("\n")
