"""A contest between ways to compute one function: each is made and checked, then all are timed in turns.

On a machine that others use too, only times taken in turns can be compared; they are told by median and spread, and
with the share of the cores that this process got.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.core.errors import one_line

Call = Callable[[], Any]


class NotHereError(RuntimeError):
    """A way to run the model does not exist on this machine; says why."""


@dataclass(frozen=True, eq=False)
class Applied:
    """A model on one batch, as a call."""

    model: nn.Module
    x: Tensor

    def __call__(self) -> Tensor:
        made: Tensor = self.model(self.x)
        return made


@dataclass(frozen=True, kw_only=True)
class TurnTimes:
    """Seconds of one call, over several rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def ratio_to(self, other: "TurnTimes") -> float:
        """How many times as long as the other it takes: the median over rounds, in which both ran side by side."""
        return statistics.median(mine / its for mine, its in zip(self.seconds, other.seconds, strict=True))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One contestant."""

    peer: str
    timing: TurnTimes | None = None  # of one call; None if it was not timed
    ratio: float | None = None  # how many times as long as the base it takes, the median of rounds
    difference: float | None = None  # largest, of a result, as a share of the largest result
    skipped: str | None = None  # why it was not timed


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A contest."""

    cells: dict[str, Cell]
    calls: dict[str, Call]  # of those that were timed
    core_share: float | None  # of the time in which our threads wanted a core, they had one; None: nobody knows


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a contest is held."""

    base: str  # what ratios refer to
    allowed: float  # difference
    unchecked: tuple[str, ...] = ()  # they are timed whatever they compute
    rounds: int = 10
    budget_s: float | None = None  # no further round begins after so many seconds; 3 are always made
    watch: Callable[[str], None] = field(default=lambda _: None)  # told what is done


def hold_contest(
    makers: Mapping[str, Callable[[], Call]], difference: Callable[[Call], float], rules: Rules
) -> Outcome:
    """Makes the contestants, drops those that are missing, broken or wrong, and times the others in turns.

    Args:
        makers: Contestant -> what makes its call; raises NotHereError where there is none.
        difference: How far the results of a call are from what they should be.
        rules: How.
    """
    cells: dict[str, Cell] = {}
    calls: dict[str, Call] = {}
    for name, make in makers.items():
        rules.watch(f"preparing {name}")
        try:
            call = make()
            cells[name] = _checked(name, call, difference, rules)
        except NotHereError as error:
            cells[name] = Cell(peer=name, skipped=str(error))
        # Whatever a compiler, a kernel or a peer does wrong must cost no more than this contestant.
        except Exception as error:
            cells[name] = Cell(peer=name, skipped=f"failed: {one_line(error, 200)}")
        if cells[name].skipped is None:
            calls[name] = call
    with CoreShare() as share:
        options: Any = {"rounds": rules.rounds, "budget_s": rules.budget_s, "watch": rules.watch}
        timings = interleave(calls, **options) if calls else {}
    for name, timing in timings.items():
        ratio = timing.ratio_to(timings[rules.base]) if rules.base in timings else None
        cells[name] = replace(cells[name], timing=timing, ratio=ratio)
    return Outcome(cells=cells, calls=calls, core_share=share.value)


def _checked(name: str, call: Call, difference: Callable[[Call], float], rules: Rules) -> Cell:
    if name in rules.unchecked:
        call()
        return Cell(peer=name)
    found = difference(call)
    if not found <= rules.allowed:
        return Cell(peer=name, skipped=f"wrong by {found:.1e}, allowed {rules.allowed:.0e}")
    return Cell(peer=name, difference=found)


class CoreShare:
    """While the block runs: the share of the time in which threads of this process wanted a core that they had one.

    As the system counts it; 1 on an idle machine, whether or not our threads have always something to do.
    """

    value: float | None = None

    def __enter__(self) -> "CoreShare":
        self._before = _scheduled()
        return self

    def __exit__(self, *_error: object) -> None:
        after = _scheduled()
        if self._before is not None and after is not None:
            ran, waited = after[0] - self._before[0], after[1] - self._before[1]
            self.value = ran / (ran + waited) if ran > 0 and waited >= 0 else None


def _scheduled() -> tuple[int, int] | None:
    """Nanoseconds that our threads ran, and waited for a core; None where the system does not tell."""
    total = [0, 0]
    found = False
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            ran, waited, _ = map(int, path.read_text().split())
        # A thread that has just ended.
        except (OSError, ValueError):
            continue
        total[0] += ran
        total[1] += waited
        found = True
    return (total[0], total[1]) if found else None


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 10,
    at_least_s: float = 0.02,
    budget_s: float | None = None,
    watch: Callable[[str], None] = lambda _: None,
) -> dict[str, TurnTimes]:
    """Times calls in turns, so that a slow moment of the machine meets all of them.

    Args:
        calls: What to time, by name.
        rounds: How often each is timed, after a call that is not.
        at_least_s: A call that is shorter is repeated within a round.
        budget_s: No further round begins after so many seconds; 3 rounds are always made.
        watch: Told which round begins.
    """
    repeats = {}
    for name, call in calls.items():
        # The first call builds what it needs, the second tells how long one takes.
        _timed(call, 1)
        repeats[name] = max(1, round(at_least_s / max(_timed(call, 1), 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    started, names = time.perf_counter(), list(calls)
    for index in range(rounds):
        if index >= 3 and budget_s is not None and time.perf_counter() - started > budget_s:
            break
        watch(f"round {index + 1} of {rounds}")
        # Another one begins each round: who follows whom is part of the measurement.
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(_timed(calls[name], repeats[name]))
    return {name: TurnTimes(seconds=tuple(values)) for name, values in seconds.items()}


def _timed(call: Callable[[], object], repeats: int) -> float:
    _wait()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait()
    return (time.perf_counter() - started) / repeats


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
