"""A number over seeds, with the interval of its mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import mean, stdev

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and where it lies with 95% confidence, for values that scatter normally; one value has no interval."""

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3g}"
        return f"{self.mean:.3g} ({self.low:.3g} to {self.high:.3g})"


def interval_of(values: Sequence[float]) -> Interval:
    """The mean over seeds, by Student's distribution."""
    if len(values) < 2:
        return Interval(mean=values[0])
    from scipy.stats import t

    middle = mean(values)
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return Interval(mean=middle, low=middle - half, high=middle + half)


def factor_interval(values: Sequence[float]) -> Interval:
    """The same for factors, which scatter normally in their logs: the geometric mean."""
    logs = interval_of([log(value) for value in values])
    return Interval(
        mean=exp(logs.mean),
        low=None if logs.low is None else exp(logs.low),
        high=None if logs.high is None else exp(logs.high),
    )
