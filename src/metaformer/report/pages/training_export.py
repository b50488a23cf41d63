"""Curves and numbers of trainings as files for a paper or a slide."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import DataError
from metaformer.report.charts.line_chart import as_file
from metaformer.report.pages.table import markdown
from metaformer.report.pages.trainings import CHARTS, COLUMNS, Trainings, load_trainings


def export_trainings(folders: Sequence[Path], target: Path) -> list[Path]:
    """Writes every curve as SVG, the table as CSV and Markdown, and each epoch of each training as CSV.

    Args:
        folders: Of the trainings.
        target: Where the files go; files of these names are replaced.

    Returns:
        The files.

    Raises:
        DataError: A folder holds no training, or the target cannot be written.
    """
    trainings = load_trainings(folders)
    rows = [["Run", *COLUMNS], *trainings.rows()]
    texts = {f"{column.replace('_', '-')}.svg": as_file(svg) for column, svg in trainings.charts().items()}
    texts |= {"trainings.csv": _csv(rows), "trainings.md": _markdown(rows), "epochs.csv": _csv(_epochs(trainings))}
    try:
        for name, text in texts.items():
            write_text(target / name, text)
    except OSError as error:
        raise DataError(f"cannot write into {target}: {error.strerror or error}.") from None
    return [target / name for name in texts]


def _epochs(trainings: Trainings) -> list[list[str]]:
    columns = ("epoch", "seconds", *CHARTS)
    rows = [["run", *columns]]
    for name, run in zip(trainings.names, trainings.runs, strict=True):
        values = [getattr(run.measured.history, column) for column in columns]
        rows += [[name, *("" if one is None else str(one) for one in row)] for row in zip(*values, strict=True)]
    return rows


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    rules = ["---", *["---:"] * len(COLUMNS)]
    lines = [rows[0], rules, *([markdown(cell) for cell in row] for row in rows[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
