"""How far a command is with its images: a bar where somebody looks, a line now and then where nobody does."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from metaformer.cli.study_progress import clock

SECONDS_BETWEEN_LINES = 10.0


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
        if now - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = now
        speed = done / (now - self.started)
        words = [f"{done:,}" + (f" of {self.total:,}" if self.total else "") + " images", f"{speed:,.0f} images/s"]
        words += [f"{unreadable} unreadable"] if unreadable else []
        words += [f"ETA {clock((self.total - done) / speed)}"] if self.total else []
        print(", ".join(words), file=sys.stderr, flush=True)
