"""How cost grows with the number of tokens: cost ~ tokens^exponent."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, log
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

from metaformer.analysis.cost import profile
from metaformer.analysis.timing import Timing, inference_memory_mib, time_calls
from metaformer.core.records import Exponent, SizeCost

# A size counts where it takes so many times as long as the smallest: below, fixed overhead is a share of the time.
OVER_OVERHEAD = 4.0
# The exponent is the slope over the largest sizes that count; fewer say nothing about a slope.
NUM_FITTED = 3
LEVEL = 0.95  # of the interval of an exponent, where there are rounds enough

Times = dict[int, float]  # number of tokens -> milliseconds, of one round


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something whose cost is measured at several grids."""

    name: str
    level: Literal["mixer", "model"]
    build: Callable[[int], tuple[nn.Module, Tensor]]  # from the side of the grid, in tokens: a module and its input


def time_round(
    subjects: Iterable[Subject], sides: Sequence[int], *, seconds: float
) -> list[tuple[str, str, int, Timing]]:
    """Times every subject at every size once.

    The sizes of one subject follow each other, because its exponent is a ratio of their times: another program that
    halves the machine's speed for seconds then slows all of them alike.

    Args:
        subjects: What is timed.
        sides: Of square grids, in tokens.
        seconds: How long each is timed at each size, about.

    Returns:
        Level, name, number of tokens, time of a forward pass.
    """
    rows: list[tuple[str, str, int, Timing]] = []
    for subject in subjects:
        for side in sides:
            module, x = subject.build(side)
            rows.append((subject.level, subject.name, side * side, time_calls(module.eval(), x, seconds=seconds)))
    return rows


def size_costs(subject: Subject, sides: Sequence[int]) -> list[SizeCost]:
    """Counts parameters and multiply-adds, and measures memory, at each size."""
    costs = []
    for side in sides:
        module, x = subject.build(side)
        module.eval()
        counted = profile(module, (x.shape[-2], x.shape[-1]), in_chans=x.shape[1])
        costs.append(
            SizeCost(
                num_tokens=side * side,
                params=counted.params,
                frozen=counted.frozen,
                macs=counted.macs,
                memory_mib=inference_memory_mib(module, x),
            )
        )
    return costs


def fit_exponent(rounds: Sequence[Times]) -> Exponent | None:
    """The exponent of time, fitted where fixed overhead no longer dominates.

    A size counts if its median time is at least four times that of the smallest size. The exponent is the slope of
    log time over log tokens through the largest three sizes that count, round by round.

    Returns:
        None if fewer than three sizes count: then nothing can be said.
    """
    if not rounds:
        return None
    sizes = sorted(set.intersection(*(set(times) for times in rounds)))
    if len(sizes) < NUM_FITTED:
        return None
    middle = {size: median(times[size] for times in rounds) for size in sizes}
    counting = [size for size in sizes if middle[size] >= OVER_OVERHEAD * middle[sizes[0]]]
    if len(counting) < NUM_FITTED:
        return None
    fitted = counting[-NUM_FITTED:]
    slopes = [slope({size: times[size] for size in fitted}) for times in rounds]
    low, high = median_interval(slopes)
    return Exponent(value=median(slopes), low=low, high=high, fitted_tokens=tuple(fitted))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the median lies with 95% confidence, whatever the distribution: two of the sorted values.

    As many values lie below the true median as heads fall in as many throws of a coin. Of five values and fewer it is
    the lowest and the highest (of five with 94%); of more it narrows, where the range would only grow.
    """
    ranked = sorted(values)
    chances = [2 * comb(len(ranked), rank) / 2 ** len(ranked) for rank in range(len(ranked) + 1)]
    outside = 0
    while sum(chances[: outside + 2]) <= 1 - LEVEL:
        outside += 1
    return ranked[outside], ranked[-1 - outside]


def count_exponent(counts: Mapping[int, float | int]) -> float | None:
    """The exponent of something counted, through the largest three sizes; None where it is zero."""
    largest = dict(sorted(counts.items())[-NUM_FITTED:])
    if len(largest) < NUM_FITTED or min(largest.values()) <= 0:
        return None
    # What does not grow has a slope of exactly zero, without the dust of rounding.
    return slope(largest) if len(set(largest.values())) > 1 else 0.0


def slope(values: Mapping[int, float | int]) -> float:
    """The slope of log value over log size, by least squares."""
    points = torch.tensor([(log(size), log(value)) for size, value in values.items()], dtype=torch.float64)
    centred = points - points.mean(dim=0)
    return float((centred[:, 0] * centred[:, 1]).sum() / centred[:, 0].square().sum())
