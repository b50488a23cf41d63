"""How sure a mean over seeds is, and which differences are more than chance. Pure functions on numbers.

With three seeds, a spread estimated from one row alone is nearly useless: its t quantile is 4.3. Rows of one study
share the data, the recipe and the seeds, so their spread is pooled, and a seed's common effect on all rows is removed
before rows are compared.

Sources: pooled variance and the additive two-way layout, Montgomery, Design and Analysis of Experiments, ch. 3 and 4
(randomized blocks; a seed is a block). Correction: Holm, Scand. J. Statist. 6 (1979). Power: the noncentral t
distribution, Cohen, Statistical Power Analysis, ch. 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from metaformer.core.errors import MissingExtraError

try:
    from scipy import special
except ImportError:
    raise MissingExtraError(need="the HTML page", extra="report") from None

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80
MOST_SEEDS = 50

Verdict = Literal["base", "better", "worse", "not told apart", "no verdict"]


@dataclass(frozen=True, kw_only=True)
class Variance:
    """An estimated variance and the degrees of freedom behind it."""

    value: float
    df: int

    def times(self, factor: float) -> "Variance":
        return Variance(value=self.value * factor, df=self.df)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row minus the base, over the seeds that both have."""

    difference: float
    num_seeds: int
    half_width: float | None  # None: there is no spread to build an interval from
    p: float | None  # two-sided, not corrected


def pooled_variance(groups: Sequence[Sequence[float]]) -> Variance | None:
    """The variance within groups: s_p^2 = sum (n_i - 1) s_i^2 / sum (n_i - 1).

    None if no group has two values, or if no value differs from its group: a spread of zero is an estimate that
    failed, not certainty.
    """
    df = sum(len(group) - 1 for group in groups if group)
    residuals = [value - sum(group) / len(group) for group in groups for value in group]
    return _variance(residuals, df, scale=max((abs(value) for group in groups for value in group), default=0.0))


def residual_variance(layout: Mapping[str, Mapping[int, float]]) -> Variance | None:
    """What is left of the variance once each row and each seed has its own mean.

    Args:
        layout: row -> seed -> value. Cells may be absent.

    Returns:
        For a complete table of r rows and s seeds, sum of squared residuals / ((r - 1)(s - 1)). With absent cells the
        additive model is fitted by least squares, and its degrees of freedom are the cells minus its rank.
    """
    rows, seeds = list(layout), sorted({seed for by_seed in layout.values() for seed in by_seed})
    cells = [(row, seed, value) for row, by_seed in layout.items() for seed, value in by_seed.items()]
    if not cells:
        return None
    design = np.zeros((len(cells), len(rows) + len(seeds)))
    for index, (row, seed, _) in enumerate(cells):
        design[index, rows.index(row)] = design[index, len(rows) + seeds.index(seed)] = 1.0
    values = np.array([value for _, _, value in cells])
    effects, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    residuals = values - design @ effects
    return _variance(residuals.tolist(), len(cells) - int(rank), scale=float(np.abs(values).max()))


def _variance(residuals: Sequence[float], df: int, *, scale: float) -> Variance | None:
    squares = sum(residual**2 for residual in residuals)
    # Rounding leaves dust where every residual should be zero.
    if df < 1 or squares <= len(residuals) * (1e-9 * scale) ** 2:
        return None
    return Variance(value=squares / df, df=df)


def half_width(variance: Variance | None, num_values: int) -> float | None:
    """Half of the 95% t-interval of a mean of `num_values`."""
    if variance is None or num_values < 1:
        return None
    return _t_quantile(variance.df) * sqrt(variance.value / num_values)


def _t_quantile(df: int) -> float:
    return float(special.stdtrit(df, (1 + LEVEL) / 2))


def paired_differences(row: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """Row minus base at each seed that both have."""
    return [row[seed] - base[seed] for seed in sorted(row.keys() & base.keys())]


def compare(differences: Sequence[float], variance: Variance | None) -> Comparison | None:
    """The mean of paired differences, tested against zero.

    Args:
        differences: Row minus base, one value a seed.
        variance: Of one such difference: twice the residual variance where rows are pooled, else their own.
    """
    if not differences:
        return None
    n, mean = len(differences), sum(differences) / len(differences)
    if variance is None:
        return Comparison(difference=mean, num_seeds=n, half_width=None, p=None)
    t = abs(mean) / sqrt(variance.value / n)
    p = 2 * float(special.stdtr(variance.df, -t))
    return Comparison(difference=mean, num_seeds=n, half_width=half_width(variance, n), p=p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's corrected p-values: the chance of even one false claim in the family stays below the level.

    None marks a comparison without a test; it is not part of the family.
    """
    corrected: list[float | None] = [None] * len(p_values)
    family = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, index) in enumerate(family):
        largest = max(largest, min(1.0, p * (len(family) - rank)))
        corrected[index] = largest
    return corrected


def verdict(difference: float | None, p_holm: float | None) -> Verdict:
    """What may be said about a row: only a corrected p below 5% is a difference."""
    if difference is None or p_holm is None:
        return "no verdict"
    if p_holm >= ALPHA:
        return "not told apart"
    return "better" if difference > 0 else "worse"


def seeds_needed(difference: float, variance: Variance | None, *, df_per_seed: int) -> str:
    """How many seeds would tell a true difference of this size apart from zero, 4 times in 5.

    Args:
        difference: The size of the difference.
        variance: Of one paired difference.
        df_per_seed: Degrees of freedom that each seed beyond the first brings: rows - 1 where rows are pooled, else 1.

    Returns:
        A number as text; ">50" beyond that; "" where nothing is known about the spread. One comparison at 95%,
        before correction.
    """
    if variance is None:
        return ""
    for n in range(2, MOST_SEEDS + 1):
        if _power(abs(difference) / sqrt(variance.value / n), df_per_seed * (n - 1)) >= POWER:
            return str(n)
    return f">{MOST_SEEDS}"


def _power(noncentrality: float, df: int) -> float:
    t = _t_quantile(df)
    # Far from zero scipy's series gives nan, and the power is 1 to every digit shown.
    if noncentrality > t + 10:
        return 1.0
    beyond = 1 - special.nctdtr(df, noncentrality, t) + special.nctdtr(df, noncentrality, -t)
    return float(beyond)
