"""How sure a mean over seeds is, and which differences are more than chance. Pure functions on numbers.

Sources: the t interval and the paired t test, Montgomery, Design and Analysis of Experiments, ch. 2. Correction: Holm,
Scand. J. Statist. 6 (1979). Power: the noncentral t distribution, Cohen, Statistical Power Analysis, ch. 2. Where the
variances come from: `seed_spread.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from metaformer.report.stats.moderated_variance import Variance
from metaformer.report.stats.special_functions import special

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80
MOST_SEEDS = 50
QUANTILES = (np.arange(1000) + 0.5) / 1000
# Fewer common seeds than this say too little about chance: with two, one lucky seed is half of the evidence.
MIN_SEEDS = 3

Verdict = Literal["base", "better", "worse", "not told apart", "no verdict"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row minus the base, over the seeds that both have."""

    difference: float
    num_seeds: int
    half_width: float | None  # None: there is no spread to build an interval from
    p: float | None  # two-sided, not corrected; None: no interval, or too few seeds for a test


def half_width(variance: Variance | None, num_values: int) -> float | None:
    """Half of the 95% t-interval of a mean of `num_values`."""
    if variance is None or num_values < 1:
        return None
    return _t_quantile(variance.df) * sqrt(variance.value / num_values)


def _t_quantile(df: float | int, alpha: float = 1 - LEVEL) -> float:
    return float(special.stdtrit(df, 1 - alpha / 2))


def paired_differences(row: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """Row minus base at each seed that both have."""
    return [row[seed] - base[seed] for seed in sorted(row.keys() & base.keys())]


def compare(differences: Sequence[float], variance: Variance | None) -> Comparison | None:
    """The mean of paired differences, tested against zero.

    Args:
        differences: Row minus base, one value a seed.
        variance: Of one such difference.
    """
    if not differences:
        return None
    n, mean = len(differences), sum(differences) / len(differences)
    if variance is None:
        return Comparison(difference=mean, num_seeds=n, half_width=None, p=None)
    t = abs(mean) / sqrt(variance.value / n)
    p = 2 * float(special.stdtr(variance.df, -t)) if n >= MIN_SEEDS else None
    return Comparison(difference=mean, num_seeds=n, half_width=half_width(variance, n), p=p)


def why_no_test(comparison: Comparison) -> str:
    """Why a comparison has no p; "" where it has one."""
    if comparison.p is not None:
        return ""
    if comparison.num_seeds < MIN_SEEDS:
        seeds = f"{comparison.num_seeds} common seed{'' if comparison.num_seeds == 1 else 's'}"
        return f"{seeds}, and a verdict needs {MIN_SEEDS}"
    return "the seeds show no spread to judge by"


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


def seeds_needed(difference: float, variance: Variance | None, *, num_seeds: int, num_tests: int = 1) -> str:
    """How many seeds would tell a true difference of this size apart from zero, 4 times in 5.

    Args:
        difference: The size of the difference.
        variance: Of one paired difference. Its degrees of freedom are taken to grow with the seeds.
        num_seeds: How many seeds those degrees of freedom come from.
        num_tests: How many rows are compared: each is asked for the strictest p that Holm's correction may ask for.

    Returns:
        A number as text; ">50" beyond that; "" where nothing is known about the spread.
    """
    if variance is None or num_seeds < 2:
        return ""
    df_per_seed = variance.df / (num_seeds - 1)
    for n in range(MIN_SEEDS, MOST_SEEDS + 1):
        shift = abs(difference) / sqrt(variance.value / n)
        if _power(shift, df_per_seed * (n - 1), alpha=ALPHA / num_tests) >= POWER:
            return str(n)
    return f">{MOST_SEEDS}"


def _power(noncentrality: float, df: float | int, *, alpha: float) -> float:
    # The noncentral t is a normal over the root of a chi-square: its mean over quantiles of the latter. scipy's series
    # for it gives nan for some arguments that occur here.
    scales = np.sqrt(special.chdtri(df, QUANTILES) / df)
    t = _t_quantile(df, alpha)
    return float((special.ndtr(noncentrality - t * scales) + special.ndtr(-noncentrality - t * scales)).mean())
