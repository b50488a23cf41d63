"""One page for trainings: accuracy against minutes, loss, and what each run was."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import DataError
from metaformer.core.run_record import RunRecord, read_run_record
from metaformer.report import provenance
from metaformer.report.line_chart import Line, line_chart
from metaformer.report.number_text import NOTHING, plain, seconds
from metaformer.report.page import PAGE_FILE, asset, environment

# Column of the history -> title of its chart.
CHARTS = {
    "validation_accuracy": "Validation accuracy (%)",
    "train_loss": "Training loss (nats)",
    "learning_rate": "Learning rate",
}


def write_training_page(folders: Sequence[Path]) -> Path:
    """Writes the page of one or several trainings into the folder of the first.

    Raises:
        DataError: A folder holds no training.
    """
    runs = [_load(folder) for folder in folders]
    names = _names(folders, runs)
    # Drawn here from numbers, with every name escaped.
    charts = {title: Markup(curve(runs, names, column)) for column, title in CHARTS.items() if _has(runs, column)}
    text = (
        environment()
        .get_template("training.html.j2")
        .render(
            css=asset("page.css"),
            title=", ".join(names),
            charts=charts,
            rows=[_row(name, run) for name, run in zip(names, runs, strict=True)],
            commands=[run.command for run in runs],
            machine=runs[0].machine,
            versions=runs[0].versions,
            differences=_differences(runs),
            names=names,
        )
    )
    target = Path(folders[0]) / PAGE_FILE
    write_text(target, text)
    return target


def curve(runs: Sequence[RunRecord], names: Sequence[str], column: str) -> str:
    """A column of the histories against minutes of training, validation included, as SVG."""
    lines = [
        Line(name=name, x=[value / 60 for value in run.history["seconds"]], y=run.history[column])
        for name, run in zip(names, runs, strict=True)
        if column in run.history
    ]
    title = CHARTS[column]
    return line_chart(lines, x_title="minutes", y_title=title, described=f"{title} against minutes of training.")


def _load(folder: Path) -> RunRecord:
    record = read_run_record(folder)
    if record.kind != "train" or "seconds" not in record.history:
        raise DataError(f"{folder} holds no finished training; its record is of kind {record.kind!r}.")
    return record


def _names(folders: Sequence[Path], runs: Sequence[RunRecord]) -> list[str]:
    same = len({run.name for run in runs}) < len(runs)
    return [folder.resolve().name if same else run.name for folder, run in zip(folders, runs, strict=True)]


def _has(runs: Sequence[RunRecord], column: str) -> bool:
    return any(column in run.history for run in runs)


def _row(name: str, run: RunRecord) -> list[str]:
    def number(metric: str, digits: int = 2) -> str:
        return plain(run.metrics[metric].value, digits) if metric in run.metrics else NOTHING

    return [
        name,
        number("test_accuracy"),
        number("validation_accuracy"),
        str(run.labels.get("best_epoch", NOTHING)),
        str(len(run.history["epoch"])),
        seconds(run.history["seconds"][-1]),
        number("images_per_second", 0),
        f"{run.metrics['peak_memory'].value:,.0f} MiB" if "peak_memory" in run.metrics else NOTHING,
        str(run.machine.get("torch_threads", NOTHING)),
    ]


def _differences(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """The settings in which the runs differ, with each run's value."""
    flat = [provenance.flatten(run.config) for run in runs]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    shown = [(key, [str(settings.get(key, NOTHING)) for settings in flat]) for key in keys]
    return [(key, values) for key, values in shown if len(set(values)) > 1]
