"""The report card as one page and one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import DataError
from metaformer.core.records import RUN_FILE, CostSeries, Record, Scaling, SizeCost, read_record
from metaformer.core.records import Card as CardResult
from metaformer.report.claims.evidence import QUIET
from metaformer.report.number_text import NOTHING, count, with_half_width
from metaformer.report.pages.study_page import PAGE_FILE, asset, environment
from metaformer.report.stats.statistics import Verdict
from metaformer.report.study.headline import inside_sentence
from metaformer.report.study.load import LoadedStudy, load_study
from metaformer.report.study.provenance import places
from metaformer.report.study.row import Row
from metaformer.report.study.summary import base_of, summarize

CARD_FILE = "card.html"
FLIPPED: dict[str, Verdict] = {"better": "worse", "worse": "better"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything that a card shows."""

    record: Record[CardResult]
    study: LoadedStudy
    rows: list[Row]
    series: dict[str, CostSeries]  # mixer -> its cost, where it was measured
    cpu_share: float | None = None  # of the time of those measurements, their own
    is_busy: bool = False  # that share is too small for the times to count


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One mixer in the table of costs: a number a resolution."""

    title: str
    is_own: bool
    latency_ms: tuple[str, ...]
    memory_mib: tuple[str, ...]
    exponent: str
    params: str
    macs: str


def load_card(folder: Path) -> Card:
    """Reads what `metaformer card` wrote.

    Raises:
        DataError: The folder is not a card.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise DataError(f"{folder} is not a card. Give the folder that 'metaformer card' wrote.")
    record = read_record(folder, CardResult)
    _ = record.measured
    study = load_study(folder / "study")
    scaling = folder / "scaling" / RUN_FILE
    cost = read_record(scaling, Scaling).measured if scaling.is_file() else None
    share = cost.cpu_share if cost else None
    return Card(
        record=record,
        study=study,
        rows=summarize(study),
        series={one.name: one for one in cost.series if one.points} if cost else {},
        cpu_share=share,
        is_busy=share is not None and share < QUIET,
    )


def write_card(folder: Path) -> Path:
    """Writes `card.html` into the folder of a card.

    Raises:
        DataError: The folder is not a card.
    """
    card = load_card(folder)
    own = base_of(card.rows)
    text = (
        environment()
        .get_template("card.html.j2")
        .render(
            card=card,
            own=own,
            others=[row for row in card.rows if not row.is_base],
            checks=card.record.measured.checks,
            quote=quote(card),
            costs=cost_rows(card),
            shown_tokens=card.record.measured.shown_tokens,
            dim=card.record.measured.dim,
            accuracy=_accuracy,
            against=against,
            count=count,
            places=places(card.study),
            study_page=f"study/{PAGE_FILE}",
            css=asset("page.css"),
            problems=[
                f"{row.title}, seed {seed}: {one.message}" for row in card.rows for seed, one in row.failures.items()
            ],
        )
    )
    target = Path(folder) / CARD_FILE
    write_text(target, text)
    return target


def quote(card: Card) -> str:
    """One line that a reviewer could quote. It says no more than the records do."""
    own = base_of(card.rows)
    parts = [f"{own.title}: {_accuracy(own)} on {inside_sentence(card.study.data.title)}, {own.num_seeds} seeds"]
    compared = [
        f"{against(row)} against {row.title.lower()}"
        for row in card.rows
        if row.difference is not None and not row.is_base
    ]
    parts += [", ".join(compared)] if compared else []
    if own.name in card.series:
        parts.append(
            _cost(card.series[own.name], card.record.measured.dim)
            + (" (timed on a busy machine)" if card.is_busy else "")
        )
    about = card.record.measured
    return "; ".join([*parts, f"{about.num_kept} of {len(about.checks)} contract checks passed"]) + "."


def against(row: Row) -> str:
    """The card's mixer minus another one: the rows of the study are the other way round."""
    if row.difference is None:
        return row.verdict
    text = with_half_width(-row.difference, row.difference_half_width, sign=True)
    return f"{text} points ({FLIPPED.get(row.verdict, row.verdict)})"


def cost_rows(card: Card) -> list[CostRow]:
    """Latency and memory of each mixer alone at the shown resolutions."""
    shown = card.record.measured.shown_tokens
    own = base_of(card.rows).name
    titles = {row.name: row.title for row in card.rows}
    rows = []
    for name, series in card.series.items():
        points = {point.num_tokens: point for point in series.points}
        found = [points[tokens] for tokens in shown if tokens in points]
        last = found[-1] if found else None
        rows.append(
            CostRow(
                title=titles.get(name, name),
                is_own=name == own,
                latency_ms=tuple(NOTHING if point.time_ms is None else f"{point.time_ms:.3g}" for point in found),
                memory_mib=tuple(f"{point.memory_mib:.3g}" for point in found),
                exponent=_exponent(series),
                params=_numbers(last) if last else NOTHING,
                macs=count(last.macs) if last else NOTHING,
            )
        )
    return rows


def _numbers(point: SizeCost) -> str:
    return count(point.params) + (f" + {count(point.frozen)} frozen" if point.frozen else "")


def _exponent(series: CostSeries) -> str:
    fitted = series.time_exponent
    return f"{fitted.value:.2f} ({fitted.low:.2f} to {fitted.high:.2f})" if fitted else "overhead dominates"


def _cost(series: CostSeries, dim: int) -> str:
    fitted = series.time_exponent
    largest = max(point.num_tokens for point in series.points)
    growth = f"fixed overhead dominates its time up to N = {largest} tokens"
    if fitted:
        growth = f"time grows as N^{fitted.value:.1f} in tokens N"
    return f"{growth}, {_params(series)} at {dim} channels"


def _params(series: CostSeries) -> str:
    trained, frozen = [point.params for point in series.points], [point.frozen for point in series.points]
    numbers = f"{_range(trained)} parameters" + (f" and {_range(frozen)} frozen numbers" if any(frozen) else "")
    return f"{numbers}, growing with N" if len({*trained}) > 1 or len({*frozen}) > 1 else numbers


def _range(counts: Sequence[int]) -> str:
    return count(counts[0]) if len(set(counts)) == 1 else f"{count(counts[0])} to {count(counts[-1])}"


def _accuracy(row: Row) -> str:
    return NOTHING if row.accuracy is None else f"{with_half_width(row.accuracy, row.half_width)}%"
