"""The report card as one page and one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaformer.core.errors import DataError
from metaformer.core.measurement import Measurement, Table
from metaformer.core.records import RUN_FILE, CostSeries, Record, Scaling, SizeCost, read_record
from metaformer.core.records import Card as CardResult
from metaformer.report.claims.evidence import QUIET
from metaformer.report.number_text import NOTHING, count, with_half_width
from metaformer.report.pages.html import PAGE_FILE
from metaformer.report.pages.record_page import RecordPage
from metaformer.report.stats.statistics import Verdict
from metaformer.report.study.headline import inside_sentence
from metaformer.report.study.report import StudyReport, load_report
from metaformer.report.study.row import Row

CARD_FILE = "card.html"
STUDY, SCALING = "study", "scaling"  # folders inside that of the card
FLIPPED: dict[str, Verdict] = {"better": "worse", "worse": "better"}


@dataclass(frozen=True, kw_only=True)
class LoadedCard:
    """Everything that a card shows."""

    record: Record[CardResult]
    report: StudyReport
    scaling: Record[Scaling] | None

    @property
    def series(self) -> dict[str, CostSeries]:
        """Mixer -> its cost, where it was measured."""
        listed = self.scaling.measured.series if self.scaling else ()
        return {one.name: one for one in listed if one.points}

    @property
    def busy_share(self) -> float | None:
        """What the measurement had of the processor, where that is too little for its times to count."""
        share = self.scaling.measured.cpu_share if self.scaling else None
        return share if share is not None and share < QUIET else None


def load_card(folder: Path) -> LoadedCard:
    """Reads what `metaformer card` wrote.

    Raises:
        DataError: The folder is not a card.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise DataError(f"{folder} is not a card. Give the folder that 'metaformer card' wrote.")
    record = read_record(folder, CardResult)
    _ = record.measured
    has_cost = (folder / SCALING / RUN_FILE).is_file()
    scaling = read_record(folder / SCALING, Scaling) if has_cost else None
    return LoadedCard(record=record, report=load_report(folder / STUDY), scaling=scaling)


def card_page(card: LoadedCard) -> RecordPage:
    """Accuracy on the same budget, cost of the mixer alone, and the contract."""
    failed = [
        f"{row.title}, seed {seed}: {one.message}" for row in card.report.rows for seed, one in row.failures.items()
    ]
    alerts = [f"Failed runs, which enter no mean: {'; '.join(failed)}"] if failed else []
    if card.busy_share is not None:
        alerts.append(
            f"The machine was busy: of the time, {card.busy_share:.0%} was the measurement's own. Do not compare these "
            "times; measure again when nothing else runs."
        )
    measured = (_accuracy_table(card), *((_cost_table(card),) if card.series else ()), _contract_table(card))
    records = {"": card.record} | {f"{STUDY}/{path}".rstrip("/"): one for path, one in card.report.records.items()}
    return RecordPage(
        title=card.record.measured.title,
        kind=card.record.kind,
        quote=quote(card),
        alerts=tuple(alerts),
        measurements=measured,
        records=records | ({SCALING: card.scaling} if card.scaling else {}),
        links=((f"{STUDY}/{PAGE_FILE}", "The whole study"),),
    )


def _accuracy_table(card: LoadedCard) -> Measurement:
    own = card.report.base
    rows = [own, *(row for row in card.report.rows if not row.is_base)]
    table = Table(
        title=f"{card.report.study.data.title}, {own.num_seeds} seeds, mean and 95% interval",
        columns=("Mixer", "Test accuracy", f"{own.title} minus it", "Parameters", "MACs"),
        rows=tuple(
            (
                row.title,
                _accuracy(row),
                "" if row.is_base else against(row),
                NOTHING if row.params is None else count(row.params),
                NOTHING if row.macs is None else count(row.macs),
            )
            for row in rows
        ),
        caption=f"The mixer sits in all stages. {own.title} minus the other, over common seeds, told apart after "
        "Holm's correction.",
    )
    question = "How accurate is it, on the same budget?"
    return Measurement(name="accuracy", question=question, finding="", panels=(table,))


def _cost_table(card: LoadedCard) -> Measurement:
    """Latency and memory of each mixer alone at the shown resolutions."""
    about = card.record.measured
    titles = {row.name: row.title for row in card.report.rows}
    rows: list[tuple[str | float | None, ...]] = []
    for name, series in card.series.items():
        points = {point.num_tokens: point for point in series.points}
        found = [points.get(tokens) for tokens in about.shown_tokens]
        last = next((point for point in reversed(found) if point), None)
        rows.append(
            (
                titles.get(name, name),
                *(point.time_ms if point else None for point in found),
                *(point.memory_mib if point else None for point in found),
                _exponent(series),
                _numbers(last) if last else NOTHING,
                count(last.macs) if last else NOTHING,
            )
        )
    sizes = [f"N = {tokens}" for tokens in about.shown_tokens]
    table = Table(
        title="Latency and memory",
        columns=(
            "Mixer",
            *(f"ms, {size}" for size in sizes),
            *(f"MiB, {size}" for size in sizes),
            "Exponent",
            "Parameters",
            "MACs",
        ),
        rows=tuple(rows),
        digits=(3,) * (4 + 2 * len(sizes)),
        caption=f"{about.dim} channels, one image, one thread, all mixers in turn; medians. Exponent: time grows as "
        "tokens to this power where fixed overhead no longer dominates, median over rounds and its interval. "
        "Parameters and MACs at the largest grid shown.",
    )
    return Measurement(name="cost", question="What does the mixer cost alone?", finding="", panels=(table,))


def _contract_table(card: LoadedCard) -> Measurement:
    table = Table(
        title="Promises",
        columns=("Promise", "Kept", "Failing example"),
        rows=tuple((check.name, check.status, check.detail or None) for check in card.record.measured.checks),
        caption="A note is allowed, and worth knowing.",
    )
    question = "Does it keep the contract of a token mixer?"
    return Measurement(name="contract", question=question, finding="", panels=(table,))


def quote(card: LoadedCard) -> str:
    """One line that a reviewer could quote. It says no more than the records do."""
    own = card.report.base
    parts = [f"{own.title}: {_accuracy(own)} on {inside_sentence(card.report.study.data.title)}, {own.num_seeds} seeds"]
    compared = [
        f"{against(row)} against {row.title.lower()}"
        for row in card.report.rows
        if row.difference is not None and not row.is_base
    ]
    parts += [", ".join(compared)] if compared else []
    if own.name in card.series:
        parts.append(
            _cost(card.series[own.name], card.record.measured.dim)
            + (" (timed on a busy machine)" if card.busy_share is not None else "")
        )
    about = card.record.measured
    return "; ".join([*parts, f"{about.num_kept} of {len(about.checks)} contract checks passed"]) + "."


def against(row: Row) -> str:
    """The card's mixer minus another one: the rows of the study are the other way round."""
    if row.difference is None:
        return row.verdict
    text = with_half_width(-row.difference, row.difference_half_width, sign=True)
    return f"{text} points ({FLIPPED.get(row.verdict, row.verdict)})"


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
