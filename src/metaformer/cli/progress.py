"""How far a command is: a live line where somebody looks, a plain line now and then where nobody does."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from metaformer.train.loop import EpochResult, StepResult

SECONDS_BETWEEN_LINES = {"images": 10.0, "steps": 30.0}


def clock(seconds: float) -> str:
    """Seconds as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def watching(what: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being done on stderr, with the seconds since the beginning."""
    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    if not console.is_terminal:
        yield lambda text: console.print(f"{what}, {text} ({clock(time.monotonic() - started)})", markup=False)
        return
    with console.status(what) as status:
        yield lambda text: status.update(escape(f"{what}, {text} ({clock(time.monotonic() - started)})"))


def watch_rounds(console: Console, what: str, rounds: Iterator[tuple[int, int]]) -> None:
    """Says after each round of a measurement how many are done."""
    for done, total in rounds:
        console.print(f"{what}: round {done} of {total}", highlight=False)


@contextmanager
def image_progress(total: int | None) -> Iterator[Callable[[int, int], None]]:
    """Shows progress on stderr; call what it gives with the number of images done, and of those not readable."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(total).show
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images"), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(), console=console) as bar:
        task, started = bar.add_task("", total=total, speed=""), time.monotonic()

        def show(done: int, unreadable: int) -> None:
            speed = f"{done / max(1e-9, time.monotonic() - started):,.0f}/s"
            bar.update(task, completed=done, speed=speed + (f", {unreadable} unreadable" if unreadable else ""))

        yield show


class _Lines:
    def __init__(self, total: int | None) -> None:
        self.total = total
        self.started = self.said = time.monotonic()

    def show(self, done: int, unreadable: int) -> None:
        now = time.monotonic()
        if now - self.said < SECONDS_BETWEEN_LINES["images"]:
            return
        self.said = now
        speed = done / (now - self.started)
        words = [f"{done:,}" + (f" of {self.total:,}" if self.total else "") + " images", f"{speed:,.0f} images/s"]
        words += [f"{unreadable} unreadable"] if unreadable else []
        words += [f"ETA {clock((self.total - done) / speed)}"] if self.total else []
        print(", ".join(words), file=sys.stderr, flush=True)


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
        if time.monotonic() - said > SECONDS_BETWEEN_LINES["steps"]:
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
