"""What a claim may be judged by: the rows of a study, differences between them, and the scaling record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaformer.core.records import CostSeries, Scaling
from metaformer.report.number_text import count, with_half_width
from metaformer.report.stats import statistics
from metaformer.report.stats.seed_spread import own_variance
from metaformer.report.stats.statistics import MIN_SEEDS, Verdict
from metaformer.report.study.row import Row
from metaformer.report.study.summary import spread_of

# Differences that a claim needs and the main table lacks. They are a family of their own for Holm's correction.
PAIRS = (("random", "identity"), ("silu", "relu"))
# Times count where the measuring thread had the processor for so much of them.
QUIET = 0.95
# By how much two costs may differ and still be called equal.
EQUAL_MACS = 0.1


class UntestedError(Exception):
    """The study holds too little to judge a claim; says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One row minus another, in points."""

    title: str
    difference: float
    half_width: float
    verdict: Verdict  # after Holm's correction: better, worse or not told apart

    @property
    def low(self) -> float:
        return self.difference - self.half_width

    @property
    def high(self) -> float:
        return self.difference + self.half_width

    @property
    def text(self) -> str:
        return f"{self.title} {with_half_width(self.difference, self.half_width, sign=True)} ({self.verdict})"


@dataclass(frozen=True, kw_only=True)
class Level:
    """What a row learned over chance minus a share of what the base did, in points: above 0, it learned more."""

    low: float  # ends of the 95% interval
    high: float
    text: str


class Evidence:
    """Answers questions of the rules, or says what is missing."""

    def __init__(self, rows: Sequence[Row], *, chance: float | None, scaling: Scaling | None = None) -> None:
        self._rows = {row.name: row for row in rows}
        self._base = next(row for row in rows if row.is_base)
        self._chance = chance
        self._scaling = scaling
        self._pairs = _pair_contrasts(self._rows)

    def against_base(self, name: str) -> Contrast:
        """A row minus the base, with the verdict of the main table.

        Raises:
            UntestedError: One of them lacks seeds in common with the other.
        """
        row = self._row(name)
        if row.difference is None or row.difference_half_width is None or row.verdict == "no verdict":
            raise UntestedError(f"{row.title}: {self._why_none(row)}")
        return Contrast(
            title=row.title, difference=row.difference, half_width=row.difference_half_width, verdict=row.verdict
        )

    def at_equal_macs(self, name: str) -> Contrast:
        """A row minus the base, where both cost the same: another architecture says nothing at another cost.

        Raises:
            UntestedError: It costs more or less than the base, or lacks seeds in common with it.
        """
        row, base = self._row(name), self._base
        if not row.macs or not base.macs:
            raise UntestedError(f"{row.title}: the MACs of it or of the base are not known")
        if abs(row.macs / base.macs - 1) > EQUAL_MACS:
            raise UntestedError(f"{row.title} has {count(row.macs)} MACs and the base {count(base.macs)}")
        return self.against_base(name)

    def between(self, one: str, other: str) -> Contrast:
        """The difference of a pair in PAIRS.

        Raises:
            UntestedError: One of them lacks seeds in common with the other.
        """
        rows = [self._row(one), self._row(other)]
        if (one, other) not in self._pairs:
            raise UntestedError(f"{rows[0].title} and {rows[1].title} have too few seeds in common")
        return self._pairs[one, other]

    def level(self, name: str, share: float) -> Level:
        """Whether a row learned more or less than a share of what the base learned over chance.

        The row's and the base's seeds are paired, so that the base is as uncertain here as it is. A run that diverged
        learned nothing: it ends at chance.

        Raises:
            UntestedError: The row, the base or the level of chance is not known, or they have too few seeds in common.
        """
        row, base, chance = self._row(name), self._base, self._chance
        if base.accuracy is None or chance is None or base.accuracy <= chance:
            raise UntestedError("the base is not above chance, or chance is not known")
        diverged = dict.fromkeys(row.failures, chance) if _all_diverged(row) else {}
        values = row.values | diverged
        if len(values) < MIN_SEEDS:
            raise UntestedError(f"{row.title}: {self._why_none(row)}")
        common = sorted(values.keys() & base.values.keys())
        if len(common) < MIN_SEEDS:
            raise UntestedError(
                f"{row.title}: {len(common)} seeds in common with the base, and a verdict needs {MIN_SEEDS}"
            )
        above = [values[seed] - chance - share * (base.values[seed] - chance) for seed in common]
        half = statistics.half_width(own_variance(above), len(above))
        if half is None:
            raise UntestedError(f"{row.title}: the seeds show no spread to judge by")
        middle = sum(above) / len(above)
        text = self._level_text(row, values, num_diverged=len(diverged))
        return Level(low=middle - half, high=middle + half, text=text)

    def _level_text(self, row: Row, values: Mapping[int, float], *, num_diverged: int) -> str:
        if num_diverged == len(values):
            return f"{row.title} diverged in every run"
        variance = own_variance(list(values.values()))
        half = statistics.half_width(variance, len(values)) if num_diverged else row.half_width
        mean = with_half_width(sum(values.values()) / len(values), half)
        note = f" ({num_diverged} of {len(values)} runs diverged and count as chance)" if num_diverged else ""
        base = f"the base has {self._base.accuracy:.1f}% and chance is {self._chance:.1f}%"
        return f"{row.title} {mean}%{note}, where {base}"

    def present(self, names: Sequence[str]) -> list[str]:
        """Those of the names that the study has a row for."""
        return [name for name in names if name in self._rows]

    def series(self, name: str) -> CostSeries:
        """What the scaling record says of a mixer on its own.

        Raises:
            UntestedError: Nothing.
        """
        share = self._scaling.cpu_share if self._scaling else None
        if share is not None and share < QUIET:
            raise UntestedError(
                f"the machine was busy: while cost was measured, {share:.0%} of the time was the measurement's own; "
                "measure again when nothing else runs"
            )
        listed = self._scaling.series if self._scaling else ()
        found = next((one for one in listed if (one.name, one.level) == (name, "mixer")), None)
        if found is None or not found.points:
            raise UntestedError(f"no scaling record of {name}")
        return found

    def _row(self, name: str) -> Row:
        if name not in self._rows:
            raise UntestedError(f"the study has no row {name!r}")
        row = self._rows[name]
        if row.other_conditions:
            raise UntestedError(f"{row.title} was trained {row.other_conditions}")
        return row

    def _why_none(self, row: Row) -> str:
        if not row.values and not _all_diverged(row):
            return "no run ended well"
        if row.num_seeds < MIN_SEEDS:
            ended = f"{row.num_seeds} run{'' if row.num_seeds == 1 else 's'} ended well"
            diverged = f" and {len(row.failures)} diverged" if _all_diverged(row) else ""
            return f"{ended}{diverged}, and a verdict needs {MIN_SEEDS} seeds"
        return row.why_no_verdict or f"a verdict needs {MIN_SEEDS} seeds in common with the base"


def _all_diverged(row: Row) -> bool:
    """Whether every run that failed did so because it diverged; there is at least one."""
    return bool(row.failures) and all(failure.kind == "diverged" for failure in row.failures.values())


def _pair_contrasts(rows: Mapping[str, Row]) -> dict[tuple[str, str], Contrast]:
    spread = spread_of(list(rows.values()))
    compared = {}
    for one, other in PAIRS:
        if not {one, other} <= rows.keys() or rows[one].other_conditions or rows[other].other_conditions:
            continue
        differences = statistics.paired_differences(rows[one].values, rows[other].values)
        comparison = statistics.compare(differences, spread.of_difference(one, other, differences))
        if comparison is not None and comparison.p is not None:
            compared[one, other] = comparison
    corrected = statistics.holm([comparison.p for comparison in compared.values()])
    return {
        (one, other): Contrast(
            title=f"{rows[one].title} minus {rows[other].title}",
            difference=comparison.difference,
            half_width=comparison.half_width or 0.0,
            verdict=statistics.verdict(comparison.difference, p_holm),
        )
        for ((one, other), comparison), p_holm in zip(compared.items(), corrected, strict=True)
    }
