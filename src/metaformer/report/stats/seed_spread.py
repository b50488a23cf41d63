"""How far rows scatter from seed to seed: which rows draw on each other's spread, and which stand on their own.

Rows of one study share the data, the recipe and the seeds. So a seed's common effect on all rows is removed before
rows are compared, and comparable rows have moderated variances; any other row has nothing but its own.

Sources: the additive two-way layout, Montgomery, Design and Analysis of Experiments, ch. 4 (randomized blocks; a seed
is a block), with a variance a row, fitted by weights. Degrees of freedom of a difference: Satterthwaite, Biometrics
Bulletin 2 (1946).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaformer.report.stats.moderated_variance import LEAST_DF, Moderated, Variance, moderate

Layout = Mapping[str, Mapping[int, float]]  # row -> seed -> value; cells may be absent

# The weights settle within two.
NUM_FITS = 3


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """The spread that is left in each comparable row once the seeds' common effect is removed."""

    rows: Moderated
    df: float = 0.0  # of all rows together

    def of_difference(self, one: str, other: str, differences: Sequence[float]) -> Variance | None:
        """The variance of one paired difference of two rows; None where nothing is known of it.

        Args:
            one: A row.
            other: Another row.
            differences: One minus the other, a value a seed. Where one of the two is not comparable, they decide.
        """
        variances = self.rows.variances
        if one not in variances or other not in variances:
            return own_variance(differences)
        a, b = variances[one], variances[other]
        value = a.value + b.value
        df = value**2 / (a.value**2 / a.df + b.value**2 / b.df)
        return Variance(value=value, df=min(df, self.df))


def seed_spread(layout: Layout, comparable: Collection[str]) -> SeedSpread:
    """The spread of the comparable rows of a layout, without what a seed does to all of them.

    Values are a row's mean, plus a seed's effect, plus a rest whose variance is the row's own. Rows that are wider than
    the common spread weigh less in the seeds' effects.
    """
    rows = {name: by_seed for name, by_seed in layout.items() if name in comparable and by_seed}
    if len(rows) < 2:
        return SeedSpread(rows=Moderated(variances={}))
    weights, own, moderated = dict.fromkeys(rows, 1.0), dict[str, Variance](), Moderated(variances={})
    for _ in range(NUM_FITS):
        own = _residual_variances(rows, weights)
        moderated = moderate(own)
        if moderated.common is None:
            break
        common = moderated.common.value
        weights = {name: common / max(common, one.value) for name, one in moderated.variances.items()}
    return SeedSpread(rows=moderated, df=sum(one.df for one in own.values()))


def _residual_variances(rows: Layout, weights: Mapping[str, float]) -> dict[str, Variance]:
    """What is left of each row's variance beside its mean and the seeds' effects.

    A row's degrees of freedom are its cells minus their leverages. For a complete table of r rows of equal weight and n
    seeds that is (n - 1)(1 - 1/r) a row, and (r - 1)(n - 1) in all.
    """
    cells = [(row, seed, value) for row, by_seed in rows.items() for seed, value in by_seed.items()]
    residuals, leverages = _fitted(cells, [weights[row] ** 0.5 for row, _, _ in cells])
    scale = max(abs(value) for _, _, value in cells)
    found = {}
    for row in rows:
        here = [index for index, (name, _, _) in enumerate(cells) if name == row]
        df = float((1 - leverages[here]).sum())
        squares = _without_dust(residuals[here].tolist(), scale=scale)
        # Rounding leaves dust where a row is fitted whole.
        found[row] = Variance(value=squares / df, df=df) if df > 1e-9 else Variance(value=0.0, df=0.0)
    return found


def _fitted(
    cells: Sequence[tuple[str, int, float]], roots: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residual and leverage of each cell in the additive model, by weighted least squares."""
    rows, seeds = (
        list(dict.fromkeys(names)) for names in ([row for row, _, _ in cells], [seed for _, seed, _ in cells])
    )
    design = np.zeros((len(cells), len(rows) + len(seeds)))
    for index, (row, seed, _) in enumerate(cells):
        design[index, rows.index(row)] = design[index, len(rows) + seeds.index(seed)] = 1.0
    values, weighted = np.array([value for _, _, value in cells]), design * np.array(roots)[:, None]
    inverse = np.linalg.pinv(weighted, rcond=1e-10)
    residuals = values - design @ (inverse @ (values * np.array(roots)))
    return residuals, np.einsum("ij,ji->i", weighted, inverse)


def mean_variances(layout: Layout, comparable: Collection[str]) -> dict[str, Variance | None]:
    """The variance of each row's values, for the interval of its mean: moderated in comparable rows, else its own."""
    own = {name: sample_variance(list(by_seed.values())) for name, by_seed in layout.items()}
    shared = moderate({name: one for name, one in own.items() if name in comparable and layout[name]}).variances
    return {name: shared.get(name) or _known(one) for name, one in own.items()}


def own_variance(values: Sequence[float]) -> Variance | None:
    """The variance of a sample that stands alone.

    None if it has fewer than two values, or if they are all the same: a spread of zero is an estimate that failed, not
    certainty.
    """
    return _known(sample_variance(values))


def sample_variance(values: Sequence[float]) -> Variance:
    """The textbook formula; zero, and no degrees of freedom, for fewer than two values."""
    df = len(values) - 1
    if df < 1:
        return Variance(value=0.0, df=0.0)
    mean = sum(values) / len(values)
    squares = _without_dust([value - mean for value in values], scale=max(map(abs, values)))
    return Variance(value=squares / df, df=float(df))


def _without_dust(residuals: Sequence[float], *, scale: float) -> float:
    """The sum of squares. Rounding leaves dust where every residual should be zero."""
    squares = sum(residual**2 for residual in residuals)
    return squares if squares > len(residuals) * (1e-9 * scale) ** 2 else 0.0


def _known(variance: Variance) -> Variance | None:
    return variance if variance.value > 0 and variance.df >= LEAST_DF else None
