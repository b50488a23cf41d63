"""Each variant at its own learning rate, beside the common recipe."""

from dataclasses import dataclass

from metaformer.core.records import TunedVariant
from metaformer.report.number_text import NOTHING, with_half_width
from metaformer.report.study.load import LoadedStudy
from metaformer.report.study.merging import Change, changes, merge
from metaformer.report.study.row import Row
from metaformer.report.study.summary import summarize
from metaformer.report.study.table import difference_number


@dataclass(frozen=True, kw_only=True)
class TunedRow:
    """One line of the second table."""

    title: str
    rate: str  # the one that it was trained with
    rates: str  # those that were tried, with the validation accuracy of each
    at_edge: bool
    common: str  # accuracy under the common recipe
    own: str
    gain: str  # own minus common
    difference: str  # to the base at its own rate
    verdict: str


def tuned_rows(study: LoadedStudy, rows: list[Row]) -> list[TunedRow]:
    """The rows at their own rates; empty where the study was not tuned."""
    if study.tuned is None or study.tuning is None:
        return []
    chosen = {one.name: one for one in study.tuning.measured.variants}
    gains = {change.name: change for change in changes(merge(study, study.tuned))}
    common = {row.name: row for row in rows}
    return [
        _tuned_row(row, common.get(row.name), chosen.get(row.name), gains.get(row.name))
        for row in summarize(study.tuned)
    ]


def _tuned_row(row: Row, common: Row | None, chosen: TunedVariant | None, gain: Change | None) -> TunedRow:
    return TunedRow(
        title=row.title,
        rate=f"{chosen.lr:.4g}" if chosen else NOTHING,
        rates=_tried(chosen),
        at_edge=chosen is not None and chosen.at_edge,
        common=_accuracy(common),
        own=_accuracy(row),
        gain=_gain(gain, is_same_rate=chosen is not None and chosen.lr == chosen.recipe_lr),
        difference="base" if row.is_base else difference_number(row),
        verdict="" if row.is_base else row.verdict,
    )


def _gain(gain: Change | None, *, is_same_rate: bool) -> str:
    if gain is not None:
        return f"{with_half_width(gain.difference, gain.half_width, sign=True)}, {gain.verdict}"
    # At another rate, one of the two has no run that ended well.
    return "same rate" if is_same_rate else NOTHING


def _tried(chosen: TunedVariant | None) -> str:
    if chosen is None:
        return NOTHING
    found = ((one.lr, one.validation_accuracy_percent) for one in chosen.tried)
    return ", ".join(f"{lr:.4g}: {NOTHING if accuracy is None else f'{accuracy:.1f}%'}" for lr, accuracy in found)


def _accuracy(row: Row | None) -> str:
    return NOTHING if row is None or row.accuracy is None else with_half_width(row.accuracy, row.half_width)
