"""What a training wrote down while it ran: CSV always, TensorBoard, W&B and MLflow if wanted."""

import contextlib
import csv
import io
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import ConfigError
from metaformer.train.loop import EpochResult, StepResult
from metaformer.train.stopping import KEPT, naming_disk_errors

LOG_FILE = "log.csv"
COLUMNS = ("epoch", "step", "loss", "learning_rate", "images_per_second", "waiting_share", "memory_mib")
EVALUATED = ("train_loss", "validation_loss", "validation_accuracy", "seconds")

Values = dict[str, float]


@runtime_checkable
class Logger(Protocol):
    """Takes numbers by name at a step, counted from the beginning of the training."""

    def log(self, values: Values, step: int) -> None: ...

    def close(self) -> None: ...


class RunLog:
    """Sends results to the loggers of a run; a run that goes on writes on where its state ends."""

    def __init__(self, names: tuple[str, ...], folder: Path, *, log_steps: int, settings: dict[str, Any]) -> None:
        self._loggers: list[Logger] = [_open(name, folder, settings) for name in names]
        self._log_steps, self._folder = log_steps, folder

    def write(self, result: StepResult | EpochResult) -> None:
        """Logs a step if it is its turn, and every epoch that was done now.

        Raises:
            StoppedError: There is no room for it.
        """
        if isinstance(result, StepResult):
            if result.step % self._log_steps and result.step != result.steps_per_epoch:
                return
            values = {name: float(getattr(result, name)) for name in COLUMNS}
            step = result.epoch * result.steps_per_epoch + result.step
        else:
            values = {"epoch": float(result.epoch)} | {name: result.history[name][-1] for name in EVALUATED}
            step = result.epoch * result.steps_per_epoch
        if isinstance(result, EpochResult) and result.resumed:
            self._complete(values)
            return
        with naming_disk_errors(f"the log in {self._folder}", KEPT):
            for logger in self._loggers:
                logger.log(values, step)

    def _complete(self, values: Values) -> None:
        """An epoch that was saved is in the log, but for a kill in between."""
        with naming_disk_errors(f"the log in {self._folder}", KEPT):
            for logger in self._loggers:
                if isinstance(logger, CsvLog):
                    logger.complete(values)

    def close(self) -> None:
        """Lets the loggers finish what they hold back."""
        for logger in self._loggers:
            logger.close()


class CsvLog:
    """`log.csv`: a line every few steps and every epoch; empty fields where a line has no such number."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_FILE
        self._fields = (*COLUMNS, *EVALUATED)
        self._file: Any = None

    def log(self, values: Values, step: int) -> None:
        if self._file is None:
            self._file = self._open(values)
        self._file.write(self._line(values) + "\n")
        self._file.flush()

    def complete(self, values: Values) -> None:
        """Adds the line in its place, if there is a log without it."""
        if not self._path.is_file():
            return
        lines, place = self._lines(), _place(values)
        if place not in lines:
            lines[place] = self._line(values)
            self._write([lines[key] for key in sorted(lines)])

    def close(self) -> None:
        if self._file is not None:
            # A full disk was told of before; what it kept from the file is told of once.
            with contextlib.suppress(OSError):
                self._file.close()

    def _open(self, first: Values) -> Any:
        """The file, without the lines from the first new one on: they are of steps that will be done again."""
        self._write([line for place, line in self._lines().items() if place < _place(first)])
        return self._path.open("a", encoding="utf-8")

    def _lines(self) -> dict[tuple[float, float], str]:
        """The lines of the file by epoch and step."""
        if not self._path.is_file():
            return {}
        text = self._path.read_text(encoding="utf-8", errors="replace")
        return {
            _place(row): ",".join(str(row.get(name) or "") for name in self._fields)
            for row in csv.DictReader(io.StringIO(text))
            # A line that was cut off has fewer fields.
            if None not in row.values()
        }

    def _write(self, lines: list[str]) -> None:
        write_text(self._path, "\n".join([",".join(self._fields), *lines]) + "\n")

    def _line(self, values: Values) -> str:
        return ",".join("" if name not in values else f"{values[name]:.8g}" for name in self._fields)


def _place(row: Any) -> tuple[float, float]:
    try:
        epoch, step = float(row.get("epoch") or 0), row.get("step")
        # The line of an epoch comes after the last step of it, which was counted to the epochs before.
        return (epoch, float(step)) if step not in (None, "") else (epoch - 1, float("inf"))
    except ValueError:
        return (float("inf"), 0.0)


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = lambda step: SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self._writer: Any = None

    def log(self, values: Values, step: int) -> None:
        if self._writer is None:
            # What an interrupted session wrote from here on is of steps that are done again.
            self._writer = self._open(step)
        for name, value in values.items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _WandB:
    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        import wandb

        # The same folder is the same run: one that goes on is shown as one.
        self._run = wandb.init(
            project="metaformer", dir=str(folder), id=_run_id(folder), resume="allow", config=settings
        )

    def log(self, values: Values, step: int) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment("metaformer")
        marker = folder / "mlflow_run_id"
        known = marker.read_text().strip() if marker.exists() else None
        run = mlflow.start_run(run_id=known, run_name=folder.name)
        if known is None:
            marker.write_text(run.info.run_id)
            mlflow.log_dict(settings, "settings.json")

    def log(self, values: Values, step: int) -> None:
        self._mlflow.log_metrics({name: value for name, value in values.items() if name != "step"}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def _open(name: str, folder: Path, settings: dict[str, Any]) -> Logger:
    try:
        if name == "tensorboard":
            return _TensorBoard(folder)
        if name == "wandb":
            return _WandB(folder, settings)
        if name == "mlflow":
            return _MLflow(folder, settings)
    except ImportError:
        raise ConfigError(f"execution.loggers {name!r} needs {name}. Install it: pip install {name}") from None
    return CsvLog(folder)


def _run_id(folder: Path) -> str:
    return "-".join(folder.resolve().parts[-3:]).replace("/", "")
