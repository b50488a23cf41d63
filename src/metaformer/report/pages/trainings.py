"""Finished trainings side by side: their numbers, and curves against minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaformer.core.errors import DataError
from metaformer.core.records import Record, Training, read_record
from metaformer.report.charts.line_chart import Line, line_chart
from metaformer.report.number_text import NOTHING, plain, seconds
from metaformer.report.study import provenance

# Column of the history -> title of its chart.
CHARTS = {
    "validation_accuracy_percent": "Validation accuracy (%)",
    "train_loss": "Training loss (nats)",
    "learning_rate": "Learning rate",
}
COLUMNS = ("Test (%)", "Validation (%)", "Best epoch", "Epochs", "Time", "Images/s", "Peak memory", "Threads")


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Records of finished trainings, each under a name of its own."""

    names: tuple[str, ...]
    runs: tuple[Record[Training], ...]

    def rows(self) -> list[list[str]]:
        """The name and the `COLUMNS` of each."""
        return [[name, *_row(run)] for name, run in zip(self.names, self.runs, strict=True)]

    def charts(self) -> dict[str, str]:
        """Column of the history -> its chart as SVG, for every column that a training has."""
        return {column: self._curve(column) for column in CHARTS}

    def differences(self) -> list[tuple[str, list[str]]]:
        """The settings in which they differ, with the value of each."""
        flat = [provenance.flatten(run.config) for run in self.runs]
        keys = list(dict.fromkeys(key for settings in flat for key in settings))
        shown = [(key, [str(settings.get(key, NOTHING)) for settings in flat]) for key in keys]
        return [(key, values) for key, values in shown if len(set(values)) > 1]

    def _curve(self, column: str) -> str:
        # Minutes of training, validation included.
        lines = [
            Line(name=name, x=[x for x, _ in points], y=[y for _, y in points])
            for name, run in zip(self.names, self.runs, strict=True)
            if (points := _points(run.measured, column))
        ]
        title = CHARTS[column]
        return line_chart(lines, x_title="minutes", y_title=title, described=f"{title} against minutes of training.")


def load_trainings(folders: Sequence[Path]) -> Trainings:
    """Reads the records of one or several trainings.

    Raises:
        DataError: A folder holds no finished training, or is named twice.
    """
    resolved = [Path(folder).resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise DataError(f"{folders[index]} is compared with itself.")
    runs = tuple(_load(folder) for folder in folders)
    is_ambiguous = len({run.name for run in runs}) < len(runs)
    names = tuple(path.name if is_ambiguous else run.name for path, run in zip(resolved, runs, strict=True))
    return Trainings(names=names, runs=runs)


def _load(folder: Path) -> Record[Training]:
    record = read_record(folder, Training)
    if not record.measured.history.epoch:
        raise DataError(f"{folder} holds a training without a finished epoch.")
    return record


def _points(trained: Training, column: str) -> list[tuple[float, float]]:
    pairs = zip(trained.history.seconds, getattr(trained.history, column), strict=True)
    return [(seconds / 60, y) for seconds, y in pairs if seconds is not None and y is not None]


def _row(run: Record[Training]) -> list[str]:
    trained = run.measured
    tested = trained.test_accuracy_percent
    return [
        NOTHING if tested is None else plain(tested, 2),
        plain(trained.validation_accuracy_percent, 2),
        str(trained.best_epoch),
        str(len(trained.history.epoch)),
        seconds(trained.train_time_s),
        plain(trained.images_per_second, 0),
        f"{trained.peak_memory_mib:,.0f} MiB",
        str(run.machine.torch_threads),
    ]
