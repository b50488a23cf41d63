"""A training while it runs: a live line where somebody looks, plain lines where nobody does."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from metaformer.cli.study_progress import clock
from metaformer.train.loop import EpochResult, StepResult

SECONDS_BETWEEN_LINES = 30.0


@dataclass
class TrainingClock:
    """How long the rest will take, judged by this session's steps and validations."""

    num_epochs: int
    started: float = field(default_factory=time.monotonic)
    first: float | None = None  # epochs that were done when this session began

    def eta(self, epochs_done: float) -> str:
        """Time to go, as 1:05."""
        if self.first is None:
            self.first, self.started = epochs_done, time.monotonic()
            return "-"
        done = epochs_done - self.first
        if done <= 0:
            return "-"
        return clock((self.num_epochs - epochs_done) * (time.monotonic() - self.started) / done)


def watch_training(console: Console, results: Iterable[StepResult | EpochResult], *, num_epochs: int) -> None:
    """Shows results until the training ends."""
    if console.is_terminal:
        _live(console, results, num_epochs)
    else:
        _lines(results, num_epochs, lambda line: print(line, flush=True))


def epoch_line(result: EpochResult, num_epochs: int, eta: str) -> str:
    """An epoch in one line."""
    last = {name: column[-1] for name, column in result.history.items()}
    return (
        f"epoch {result.epoch}/{num_epochs}: loss {last['train_loss']:.4f}, "
        f"validation {last['validation_accuracy']:.2f}% (loss {last['validation_loss']:.4f}), "
        f"lr {last['learning_rate']:.2e}, {last['images_per_second']:,.0f} images/s, ETA {eta}"
    )


def step_text(result: StepResult, accuracy: float | None) -> str:
    """A step in a few words."""
    seen = "" if accuracy is None else f", validation {accuracy:.2f}%"
    waiting = f", waiting for images {result.waiting_share:.0%}" if result.waiting_share > 0.05 else ""
    return (
        f"loss {result.loss:.4f}{seen}, lr {result.learning_rate:.2e}, {result.images_per_second:,.0f} images/s, "
        f"{result.memory_mib:,.0f} MiB{waiting}"
    )


def _lines(results: Iterable[StepResult | EpochResult], num_epochs: int, say: Callable[[str], None]) -> None:
    timer, said = TrainingClock(num_epochs), time.monotonic()
    accuracy: float | None = None
    for result in results:
        if isinstance(result, EpochResult):
            accuracy, said = result.history["validation_accuracy"][-1], time.monotonic()
            say(epoch_line(result, num_epochs, timer.eta(float(result.epoch))))
            continue
        eta = timer.eta(result.epoch + result.step / result.steps_per_epoch)
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            where = f"epoch {result.epoch + 1}/{num_epochs}, step {result.step}/{result.steps_per_epoch}"
            say(f"{where}: {step_text(result, accuracy)}, ETA {eta}")


def _live(console: Console, results: Iterable[StepResult | EpochResult], num_epochs: int) -> None:
    timer, accuracy = TrainingClock(num_epochs), None
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        task: TaskID = bar.add_task("starting", total=None, said="")
        for result in results:
            if isinstance(result, EpochResult):
                accuracy = result.history["validation_accuracy"][-1]
                bar.console.print(epoch_line(result, num_epochs, timer.eta(float(result.epoch))), highlight=False)
                continue
            eta = timer.eta(result.epoch + result.step / result.steps_per_epoch)
            bar.update(
                task,
                description=f"epoch {result.epoch + 1}/{num_epochs}",
                completed=result.step,
                total=result.steps_per_epoch,
                said=f"{step_text(result, accuracy)}, ETA {eta}",
            )
