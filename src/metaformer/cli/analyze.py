"""`metaformer analyze`: what models do, by probes."""

import sys
import time
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metaformer.analysis.table import PROBES
from metaformer.cli.progress import clock
from metaformer.core.command_line import given_command
from metaformer.core.errors import ConfigError
from metaformer.core.records.analysis import Analysis
from metaformer.deploy.analysis import analyze as run

SECONDS_BETWEEN_LINES = 10.0


def analyze(
    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODELS")] = (),
    /,
    *,
    data: str = "digits",
    probes: Annotated[str, tyro.conf.arg(name="with")] = "all",
    split: str = "validation",
    num_images: int = 64,
    batch_size: int = 16,
    image_size: tuple[int, int] | int | None = None,
    device: str = "auto",
    out: Path | None = None,
) -> int:
    """Looks at models by probes, side by side, and leaves a record with curves and tables.

    metaformer analyze runs/pooling runs/attention --data cifar10:DIR --with rank_collapse,similarity --out runs/look

    The same command continues where it was interrupted. Probes that do not apply to these models are named and left
    out of all; named by themselves they are an error.

    Args:
        models: Run folders, weights files, names of the zoo (with first weights) or timm/NAME; one or several.
        data: As for 'metaformer evaluate': digits, cluttered-digits, a folder of class folders, cifar10:PATH, ...
        probes: all, without curvature, which takes hours on large models; or names with options:
            rank_collapse,similarity(layers=('stages.*',)).
        split: validation or test.
        num_images: At most, spread evenly over the split.
        batch_size: Images at once.
        image_size: Side, or height and width, in pixels; the first model's own if not given.
        device: auto, cpu, cuda, ...
        out: Folder for run.json, and for each finished probe; without it nothing is kept.
    """
    if not models:
        raise ConfigError("no model: name run folders, models of the zoo (metaformer models) or timm/NAME.")
    with _Show(Console(stderr=True)) as show:
        result = run(
            models,
            data=data,
            probes=probes,
            split=split,
            num_images=num_images,
            batch_size=batch_size,
            image_size=image_size,
            device=device,
            out=out,
            command=given_command(),
            watch=show.step,
        )
    _print(result)
    if out:
        print(f"\nrecord: {(out / 'run.json').resolve()}")
    return 0


def _print(result: Analysis) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{escape(', '.join(result.models))} on {result.num_images} images of {escape(result.data)}")
    seconds = {timed.probe: timed.wall_time_s for timed in result.times}
    for measurement in result.measurements:
        took = f"  ({clock(seconds[measurement.name])})" if measurement.name in seconds else ""
        console.print(f"\n[bold]{escape(measurement.question)}[/bold]  {measurement.name}{took}")
        console.print(escape(measurement.finding))
    for skipped in result.skipped:
        console.print(f"\nleft out: {skipped.probe}: {escape(skipped.reason)}")


class _Show:
    """A bar a probe where somebody looks, a line now and then where nobody does."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = (
            Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console)
            if console.is_terminal
            else None
        )
        self._tasks: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._said = time.monotonic()

    def __enter__(self) -> "_Show":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def step(self, probe: str, done: int, total: int) -> None:
        """Shows that so many steps of a probe are done."""
        now = time.monotonic()
        started = self._started.setdefault(probe, now)
        if self._bars:
            if probe not in self._tasks:
                place = f"{[*PROBES].index(probe) + 1}/{len(PROBES)} " if probe in PROBES else ""
                self._tasks[probe] = self._bars.add_task(place + probe, total=total)
            self._bars.update(self._bars.task_ids[self._tasks[probe]], completed=done, total=total)
        elif now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            left = (now - started) / max(done - 1, 1) * (total - done)
            print(f"{probe}: {done} of {total}, ETA {clock(left)}", file=sys.stderr, flush=True)
