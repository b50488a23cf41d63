"""What a claim may be judged by: the rows of a study, differences between them, and the scaling record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaformer.report import statistics
from metaformer.report.number_text import with_half_width
from metaformer.report.row import Row
from metaformer.report.statistics import Verdict

# Differences that a claim needs and the main table lacks. They are a family of their own for Holm's correction.
PAIRS = (("random", "identity"), ("silu", "relu"))
# A study may hold a row of the paper's table under another name.
ALIASES = {"ppaa": ("ppaa", "attention_late"), "ppff": ("ppff", "spatial_mlp_late")}
# Times count where the measuring thread had the processor for so much of them.
QUIET = 0.95
DIVERGED = ("diverged", "loss became")


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
    """How much of what the base learned a row learned: 0 is chance, 1 is the base. With its 95% interval."""

    title: str
    low: float
    high: float
    text: str


class Evidence:
    """Answers questions of the rules, or says what is missing."""

    def __init__(self, rows: Sequence[Row], *, chance: float | None, scaling: Mapping[str, Any] | None = None) -> None:
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

    def between(self, one: str, other: str) -> Contrast:
        """The difference of a pair in PAIRS.

        Raises:
            UntestedError: One of them lacks seeds in common with the other.
        """
        rows = [self._row(one), self._row(other)]
        if (one, other) not in self._pairs:
            raise UntestedError(f"{rows[0].title} and {rows[1].title} have too few seeds in common")
        return self._pairs[one, other]

    def level(self, name: str) -> Level:
        """How much a row learned, between chance and the base. A row whose runs all diverged learned nothing.

        Raises:
            UntestedError: The row, the base or the level of chance is not known.
        """
        row, base = self._row(name), self._base
        if base.accuracy is None or self._chance is None or base.accuracy <= self._chance:
            raise UntestedError("the base is not above chance, or chance is not known")
        if not row.values and row.errors and all(_diverged(error) for error in row.errors.values()):
            return Level(title=row.title, low=0.0, high=0.0, text=f"{row.title} diverged in every run")
        if row.num_seeds < 2 or row.accuracy is None:
            raise UntestedError(f"{row.title}: {self._why_none(row)}")
        span = base.accuracy - self._chance
        # Without any spread, as of runs that all end at chance, the mean stands for itself.
        half = row.half_width or 0.0
        return Level(
            title=row.title,
            low=(row.accuracy - half - self._chance) / span,
            high=(row.accuracy + half - self._chance) / span,
            text=f"{row.title} {with_half_width(row.accuracy, row.half_width)}%, where the base has "
            f"{base.accuracy:.1f}% and chance is {self._chance:.1f}%",
        )

    def span(self) -> float:
        """The base's accuracy above chance, in points.

        Raises:
            UntestedError: One of the two is not known.
        """
        if self._base.accuracy is None or self._chance is None or self._base.accuracy <= self._chance:
            raise UntestedError("the base is not above chance, or chance is not known")
        return self._base.accuracy - self._chance

    def present(self, names: Sequence[str]) -> list[str]:
        """Those of the names that the study has a row for."""
        return [name for name in names if any(alias in self._rows for alias in ALIASES.get(name, (name,)))]

    def series(self, name: str, level: str = "mixer") -> Mapping[str, Any]:
        """What the scaling record says of a mixer.

        Raises:
            UntestedError: Nothing.
        """
        share = (self._scaling or {}).get("cpu_share")
        if isinstance(share, int | float) and share < QUIET:
            raise UntestedError(
                f"the machine was busy: while cost was measured, {share:.0%} of the time was the measurement's own; "
                "measure again when nothing else runs"
            )
        listed = (self._scaling or {}).get("series", [])
        found = next((one for one in listed if one.get("name") == name and one.get("level") == level), None)
        if found is None:
            raise UntestedError(f"no scaling record of {name}")
        return dict(found)

    def _row(self, name: str) -> Row:
        for alias in ALIASES.get(name, (name,)):
            if alias in self._rows:
                return self._rows[alias]
        raise UntestedError(f"the study has no row {name!r}")

    def _why_none(self, row: Row) -> str:
        if not row.values:
            return "no run ended well"
        if row.num_seeds < 2:
            return "one seed says nothing about chance"
        return "no interval: too few seeds in common with the base, or no spread to judge by"


def _diverged(error: str) -> bool:
    return any(word in error.lower() for word in DIVERGED)


def _pair_contrasts(rows: Mapping[str, Row]) -> dict[tuple[str, str], Contrast]:
    residual = statistics.residual_variance(
        {row.name: row.values for row in rows.values() if row.comparable and row.values}
    )
    compared = {}
    for one, other in PAIRS:
        if one not in rows or other not in rows:
            continue
        differences = statistics.paired_differences(rows[one].values, rows[other].values)
        pooled = rows[one].comparable and rows[other].comparable
        variance = residual.times(2.0) if pooled and residual else None
        variance = variance if pooled else statistics.pooled_variance([differences])
        comparison = statistics.compare(differences, variance)
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
