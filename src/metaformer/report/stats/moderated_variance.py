"""Variances of many small samples, each drawn towards what all have in common, as far as they agree.

With three seeds the own spread of a row is nearly useless (its t quantile is 4.3), and one spread for all is wrong
where rows differ: it calls quiet rows uncertain and wild ones certain. Between the two lies empirical Bayes: the true
variances are taken to follow a scaled inverse chi-square law with mean s0^2 and d0 degrees of freedom, both fitted to
the samples. Samples that agree give a large d0, and with it one variance for all; samples that do not give a small
one, and each keeps its own.

Sources: Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004), Sec. 6.2, as limma's `fitFDist` and `squeezeVar` do it. Samples
that are wider than such a law explains are drawn in before the fit and stand alone after it, for the reason given in
Phipson et al., Ann. Appl. Stat. 10 (2016): drawn towards the others they would be called certain. There each has a
probability of being one; here it is yes or no, which simulated studies of three seeds do not tell from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isinf

import numpy as np

from metaformer.report.stats.special_functions import special

# Equal variances give a sample this wide once in ten.
WIDE = 0.1
# Below half a degree of freedom a sample says nothing about its variance.
LEAST_DF = 0.5
# Of the median: a spread of zero has no logarithm, and accuracies of a few test images often coincide. Two degrees of
# freedom give less than this once in a hundred, so what lies below says no more than this does.
FLOOR = 0.01


@dataclass(frozen=True, kw_only=True)
class Variance:
    """An estimated variance and the degrees of freedom behind it."""

    value: float
    df: float | int


@dataclass(frozen=True, kw_only=True)
class Moderated:
    """Samples with their moderated variances, and what these rest on."""

    variances: Mapping[str, Variance]  # of those of which something is known: none where no sample has any spread
    common: Variance | None = None  # s0^2 and d0, which may be infinite; None: too few samples for one
    wide: tuple[str, ...] = ()  # samples that stand alone


def moderate(own: Mapping[str, Variance]) -> Moderated:
    """The moderated variance of each sample: (d0 s0^2 + d s^2) / (d0 + d), with d0 + d degrees of freedom.

    Those are at most what all samples have together. A sample that is clearly wider than the others keeps its own.

    Args:
        own: Sample -> its own variance s^2, which may be zero, and the degrees of freedom d of that.
    """
    known = {name: one for name, one in own.items() if one.df >= LEAST_DF}
    if not any(one.value > 0 for one in known.values()):
        return Moderated(variances={})
    if len(known) < 2:
        return Moderated(variances={name: one for name, one in known.items() if one.value > 0})
    limits = _limits(known)
    wide = tuple(name for name, one in known.items() if one.value > limits[name])
    common = _fit({name: Variance(value=min(one.value, limits[name]), df=one.df) for name, one in known.items()})
    most_df = sum(one.df for name, one in own.items() if name not in wide)
    drawn = {name: one if name in wide else _drawn(one, common, most_df) for name, one in own.items()}
    return Moderated(
        variances={name: one for name, one in drawn.items() if one.df >= LEAST_DF}, common=common, wide=wide
    )


def _limits(known: Mapping[str, Variance]) -> dict[str, float]:
    """The variance beyond which a sample is wider than the others, if they are all equal."""
    # The median is what a few wide samples cannot move.
    middle = float(np.median([one.value / _chi_square(one.df, 0.5) for one in known.values()]))
    return {name: middle * _chi_square(one.df, WIDE) if middle > 0 else inf for name, one in known.items()}


def _chi_square(df: float | int, above: float) -> float:
    """The value that a chi-square variable over its degrees of freedom exceeds so often."""
    return float(special.chdtri(df, above)) / df


def _fit(known: Mapping[str, Variance]) -> Variance:
    """s0^2 and d0, by the moments of the logarithms."""
    df = np.array([one.df for one in known.values()])
    values = np.array([one.value for one in known.values()])
    floored = np.maximum(values, FLOOR * np.median(values[values > 0]))
    logs = np.log(floored) - special.digamma(df / 2) + np.log(df / 2)
    # What their logarithms differ by beyond what chance makes them differ.
    excess = float(logs.var(ddof=1) - special.polygamma(1, df / 2).mean())
    if excess <= 0:
        return Variance(value=float((df * floored).sum() / df.sum()), df=inf)
    d0 = 2 * inverse_trigamma(excess)
    return Variance(value=float(np.exp(logs.mean() + special.digamma(d0 / 2) - np.log(d0 / 2))), df=d0)


def _drawn(own: Variance, common: Variance, most_df: float | int) -> Variance:
    df = own.df + common.df
    value = common.value if isinf(df) else (common.df * common.value + own.df * own.value) / df
    return Variance(value=value, df=min(df, most_df))


def inverse_trigamma(value: float) -> float:
    """The y with trigamma(y) = value, for a value above zero.

    Source: Smyth (2004), appendix: Newton's method on 1 / trigamma, which is nearly a straight line, so that it
    converges from one side.
    """
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y
