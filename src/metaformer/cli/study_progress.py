"""A study while it runs: one live table, or plain lines where nobody looks."""

import time
from collections.abc import Collection, Generator
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from metaformer.cli.progress import clock
from metaformer.study.event import StudyEvent

FAILED = "failed"


@dataclass
class Progress:
    """What is known of the study's runs."""

    num_runs: int
    started: float = field(default_factory=time.monotonic)
    epochs_done: dict[tuple[str, int], int] = field(default_factory=dict)
    epochs_before: int = 0  # not done in this session; they tell nothing about its speed
    last: dict[tuple[str, int], StudyEvent] = field(default_factory=dict)
    epochs_per_run: int = 1
    num_finished: int = 0  # runs; failed ones too

    def take(self, event: StudyEvent) -> None:
        """Books an event."""
        key = (event.run.name, event.run.seed)
        self.epochs_per_run = event.run.train.epochs
        if event.kind in ("skipped", "finished", FAILED):
            self.num_finished += 1
            # Epochs that nobody waits for any more, and that were not done in this session.
            self.epochs_before += event.run.train.epochs - self.epochs_done.get(key, 0)
            self.epochs_done[key] = event.run.train.epochs
        elif event.kind == "epoch":
            # The first word of a continued run tells of all epochs it had done.
            self.epochs_before += event.epoch - 1 if key not in self.epochs_done else 0
            self.epochs_done[key] = event.epoch
        if event.kind in ("finished", FAILED) and (before := self.last.get(key)):
            event = StudyEvent(
                kind=event.kind,
                run=event.run,
                epoch=before.epoch,
                validation_accuracy=before.validation_accuracy,
                images_per_second=before.images_per_second,
                failure=event.failure,
            )
        if event.kind != "skipped":
            self.last[key] = event

    def eta(self) -> str:
        """Time to go, from the epochs of this session."""
        done = sum(self.epochs_done.values())
        to_do = self.num_runs * self.epochs_per_run - done
        this_session = done - self.epochs_before
        if this_session <= 0:
            return "ETA -"
        return f"ETA {clock(to_do * (time.monotonic() - self.started) / this_session)}"

    def table(self, height: int) -> Group:
        """The runs of this session, as many of the latest as fit."""
        table = Table("variant", box=None, pad_edge=False)
        for title in ("seed", "epoch", "validation", "images/s", ""):
            table.add_column(title, justify="right")
        rows = list(self.last.values())[-max(3, height - 6) :]
        for event in rows:
            table.add_row(*cells(event))
        elapsed = clock(time.monotonic() - self.started)
        line = f"{self.num_finished}/{self.num_runs} runs done, {elapsed} elapsed, {self.eta()}"
        return Group(table, Text(line, style="bold"))


def cells(event: StudyEvent) -> tuple[str, ...]:
    """A run as a row."""
    accuracy = "" if event.validation_accuracy is None else f"{event.validation_accuracy:.1f}%"
    speed = "" if event.images_per_second is None else f"{event.images_per_second:,.0f}"
    state = {"finished": "done", FAILED: escape(_reason(event))}.get(event.kind, "")
    return (
        event.run.name,
        str(event.run.seed),
        f"{event.epoch}/{event.run.train.epochs}",
        accuracy,
        speed,
        state,
    )


def watch(
    console: Console, events: Generator[StudyEvent, None, None], *, num_runs: int, may_diverge: Collection[str] = ()
) -> int:
    """Shows events until the study ends.

    Args:
        console: Where to.
        events: Of the study.
        num_runs: In all.
        may_diverge: Names of variants whose divergence is a result.

    Returns:
        How many runs failed, now or, where that is final, before.
    """
    progress = Progress(num_runs)
    num_failed = 0
    # Closing the generator stops the runs, whatever ends the loop.
    try:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=4) as live:
                for event in events:
                    progress.take(event)
                    num_failed += _is_failure(event, may_diverge)
                    live.update(progress.table(console.height))
        else:
            for event in events:
                progress.take(event)
                num_failed += _is_failure(event, may_diverge)
                if event.kind in ("finished", FAILED, "skipped"):
                    print(_line(progress, event), flush=True)
    finally:
        events.close()
    return num_failed


def _is_failure(event: StudyEvent, may_diverge: Collection[str]) -> bool:
    if event.failure is None or event.kind not in (FAILED, "skipped"):
        return False
    return not (event.failure.kind == "diverged" and event.run.name in may_diverge)


def _reason(event: StudyEvent) -> str:
    return event.failure.message if event.failure else ""


def _line(progress: Progress, event: StudyEvent) -> str:
    start = f"[{progress.num_finished}/{progress.num_runs}] {event.run.name}, seed {event.run.seed}:"
    if event.kind == "skipped":
        return f"{start} failed before: {_reason(event)}" if event.failure else f"{start} finished before"
    known = progress.last[event.run.name, event.run.seed]
    if event.kind == FAILED:
        return f"{start} failed: {_reason(event)}"
    accuracy, speed = known.validation_accuracy or 0.0, known.images_per_second or 0.0
    return f"{start} {accuracy:.1f}% validation, {speed:,.0f} images/s, {progress.eta()}"
