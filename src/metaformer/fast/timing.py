"""Times that can be compared on a machine that others use too: taken in turns, told by median and spread."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Timing:
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

    def ratio_to(self, other: "Timing") -> float:
        """How many times as long as the other it takes: the median over rounds, in which both ran side by side."""
        return statistics.median(mine / its for mine, its in zip(self.seconds, other.seconds, strict=True))


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 10,
    at_least_s: float = 0.02,
    budget_s: float | None = None,
    watch: Callable[[str], None] = lambda _: None,
) -> dict[str, Timing]:
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
    return {name: Timing(seconds=tuple(values)) for name, values in seconds.items()}


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
