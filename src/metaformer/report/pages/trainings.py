"""Finished trainings side by side: their numbers, and curves against minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaformer.core.errors import DataError
from metaformer.core.measurement import Axis, Curve, Curves, Measurement, Table, numbers
from metaformer.core.records import Record, Training, read_record
from metaformer.report.number_text import NOTHING, plain, seconds
from metaformer.report.pages.record_page import RecordPage
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

    def differences(self) -> list[tuple[str, list[str]]]:
        """The settings in which they differ, with the value of each."""
        flat = [provenance.flatten(run.config) for run in self.runs]
        keys = list(dict.fromkeys(key for settings in flat for key in settings))
        shown = [(key, [str(settings.get(key, NOTHING)) for settings in flat]) for key in keys]
        return [(key, values) for key, values in shown if len(set(values)) > 1]

    def curves(self, column: str) -> Curves:
        """A column of every history against minutes of training, validation included."""
        found = [(name, run.measured.history) for name, run in zip(self.names, self.runs, strict=True)]
        return Curves(
            title=CHARTS[column],
            x=Axis(title="minutes"),
            y=Axis(title=CHARTS[column]),
            curves=tuple(
                Curve(
                    name=name,
                    x=numbers(None if value is None else value / 60 for value in history.seconds),
                    y=getattr(history, column),
                )
                for name, history in found
            ),
        )


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


def trainings_page(trainings: Trainings, folders: Sequence[Path]) -> RecordPage:
    """Results, curves, and the settings in which the trainings differ."""
    rows = tuple(tuple(row) for row in trainings.rows())
    result = Table(
        title="Top-1 accuracy",
        columns=("Run", *COLUMNS),
        rows=rows,
        caption="The test split was read once, at the end. Time is that of training and validation, over all sittings.",
    )
    measured = [
        Measurement(name="result", question="Result", finding="", panels=(result,)),
        Measurement(
            name="curves",
            question="Against minutes",
            finding="Minutes of training, validation included; a point an epoch.",
            panels=tuple(trainings.curves(column) for column in CHARTS),
        ),
    ]
    if differences := trainings.differences():
        table = Table(
            title="Settings",
            columns=("Setting", *trainings.names),
            rows=tuple((key, *values) for key, values in differences),
        )
        measured.append(
            Measurement(name="settings", question="In which settings they differ", finding="", panels=(table,))
        )
    places = ("",) if len(folders) == 1 else tuple(f"{i}-{Path(f).resolve().name}" for i, f in enumerate(folders, 1))
    return RecordPage(
        title=", ".join(trainings.names),
        kind="train",
        measurements=tuple(measured),
        records=dict(zip(places, trainings.runs, strict=True)),
    )


def _load(folder: Path) -> Record[Training]:
    record = read_record(folder, Training)
    if not record.measured.history.epoch:
        raise DataError(f"{folder} holds a training without a finished epoch.")
    return record


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
