"""Each variant at its own learning rate, beside the common recipe."""

from dataclasses import dataclass

from metaformer.report.number_text import NOTHING, with_half_width
from metaformer.report.pages.table import difference_number
from metaformer.report.study.load import Study
from metaformer.report.study.merging import Change, changes
from metaformer.report.study.row import Row
from metaformer.report.study.summary import summarize


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


def tuned_rows(study: Study, rows: list[Row]) -> list[TunedRow]:
    """The rows at their own rates; empty where the study was not tuned."""
    tuning = study.extras.get("tuning")
    if study.tuned is None or tuning is None:
        return []
    chosen = {row["name"]: row for row in tuning.labels.get("variants", []) if isinstance(row, dict) and "name" in row}
    gains = {change.name: change for change in changes(study, study.tuned)}
    common = {row.name: row for row in rows}
    return [
        _tuned_row(row, common.get(row.name), chosen.get(row.name, {}), gains.get(row.name))
        for row in summarize(study.tuned)
    ]


def _tuned_row(row: Row, common: Row | None, chosen: dict[str, object], gain: Change | None) -> TunedRow:
    lr = chosen.get("lr")
    return TunedRow(
        title=row.title,
        rate=f"{lr:.4g}" if isinstance(lr, int | float) else NOTHING,
        rates=_tried(chosen),
        at_edge=bool(chosen.get("at_edge")),
        common=_accuracy(common),
        own=_accuracy(row),
        gain=_gain(gain, is_same_rate=lr is not None and lr == chosen.get("recipe_lr")),
        difference="base" if row.is_base else difference_number(row),
        verdict="" if row.is_base else row.verdict,
    )


def _gain(gain: Change | None, *, is_same_rate: bool) -> str:
    if gain is not None:
        return f"{with_half_width(gain.difference, gain.half_width, sign=True)}, {gain.verdict}"
    # At another rate, one of the two has no run that ended well.
    return "same rate" if is_same_rate else NOTHING


def _tried(chosen: dict[str, object]) -> str:
    rates, accuracies = chosen.get("rates"), chosen.get("validation_accuracy")
    if not isinstance(rates, list) or not isinstance(accuracies, list):
        return NOTHING
    return ", ".join(
        f"{rate:.4g}: {NOTHING if accuracy is None else f'{accuracy:.1f}%'}"
        for rate, accuracy in zip(rates, accuracies, strict=False)
    )


def _accuracy(row: Row | None) -> str:
    return NOTHING if row is None or row.accuracy is None else with_half_width(row.accuracy, row.half_width)
