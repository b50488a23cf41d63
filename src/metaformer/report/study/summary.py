"""From the records of a study to one row a variant."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from statistics import median
from typing import Any

from metaformer.core.run_record import RunRecord
from metaformer.report.stats import statistics
from metaformer.report.stats.moderated_variance import Variance
from metaformer.report.stats.seed_spread import SeedSpread, mean_variances, seed_spread
from metaformer.report.stats.statistics import Comparison
from metaformer.report.study import provenance
from metaformer.report.study.headline import headline as headline
from metaformer.report.study.load import Study, Variant
from metaformer.report.study.row import Row, Spread


def summarize(study: Study) -> list[Row]:
    """One row a variant, in the study's order.

    A run that failed counts as failed: its numbers enter no mean.
    """
    measured = [_measure(study, variant) for variant in study.variants]
    return _compare(_estimate(measured))


def base_of(rows: list[Row]) -> Row:
    """The row that the others are compared to."""
    return next(row for row in rows if row.is_base)


def _measure(study: Study, variant: Variant) -> Row:
    every = study.runs[variant.name]
    good = {seed: run for seed, run in every.items() if run.error is None}
    base_top1 = next(other.paper_top1 for other in study.variants if other.name == study.base)
    both = None not in (variant.paper_top1, base_top1) and variant.paper_same_size
    return Row(
        name=variant.name,
        title=variant.title,
        change=variant.change,
        paper_top1=variant.paper_top1,
        paper_note=variant.paper_note,
        paper_difference=(variant.paper_top1 or 0.0) - (base_top1 or 0.0) if both else None,
        is_base=variant.name == study.base,
        control=variant.control,
        comparable=variant.comparable,
        changed_settings=tuple(setting.path for setting in provenance.changed_settings(study, variant.name)),
        values=_metric(good, study.primary),
        params=_count(every, "params"),
        frozen=_count(every, "frozen"),
        macs=_count(every, "macs"),
        images_per_second=_spread(list(_metric(good, "images_per_second").values())),
        latency_ms=_latency(study, variant.name),
        memory_mib=_number(_speed(study, variant.name).get("memory_mib")),
        per_class=_mean_lists(_per_class(good)),
        per_class_difference=_per_class_difference(study, good),
        curves=_curves(every),
        errors={seed: run.error for seed, run in every.items() if run.error is not None},
        missing=study.missing_seeds(variant.name),
    )


def _estimate(rows: list[Row]) -> list[Row]:
    """Adds means and their intervals."""
    variances = mean_variances({row.name: row.values for row in rows}, _comparable(rows))
    estimated = []
    for row in rows:
        values = list(row.values.values())
        half_width = statistics.half_width(variances[row.name], len(values))
        accuracy = sum(values) / len(values) if values else None
        note = "" if half_width is not None else _why_no_interval(values)
        estimated.append(replace(row, accuracy=accuracy, half_width=half_width, note=note))
    return estimated


def spread_of(rows: Sequence[Row]) -> SeedSpread:
    """What the differences of these rows are judged by."""
    return seed_spread({row.name: row.values for row in rows}, _comparable(rows))


def _comparable(rows: Sequence[Row]) -> set[str]:
    return {row.name for row in rows if row.comparable}


def _why_no_interval(values: list[float]) -> str:
    if not values:
        return "no run has ended well"
    return "one seed, so no interval" if len(values) == 1 else "every seed gave the same number, so no interval"


def _compare(rows: list[Row]) -> list[Row]:
    """Adds the differences to the base, seed by seed, and the verdicts, corrected for how many rows were compared."""
    base, spread = base_of(rows), spread_of(rows)
    compared = {}
    for row in rows:
        differences = [] if row.is_base else statistics.paired_differences(row.values, base.values)
        variance = spread.of_difference(row.name, base.name, differences) if differences else None
        compared[row.name] = statistics.compare(differences, variance), variance
    corrected = statistics.holm([comparison.p if comparison else None for comparison, _ in compared.values()])
    num_tests = sum(p is not None for p in corrected)
    return [
        replace(row, verdict="base")
        if row.is_base
        else _judged(row, *compared[row.name], p_holm=p_holm, num_tests=max(1, num_tests))
        for row, p_holm in zip(rows, corrected, strict=True)
    ]


def _judged(
    row: Row, comparison: Comparison | None, variance: Variance | None, *, p_holm: float | None, num_tests: int
) -> Row:
    if comparison is None:
        return row
    return replace(
        row,
        difference=comparison.difference,
        difference_half_width=comparison.half_width,
        p=comparison.p,
        p_holm=p_holm,
        verdict=statistics.verdict(comparison.difference, p_holm),
        why_no_verdict=statistics.why_no_test(comparison),
        seeds_needed=statistics.seeds_needed(
            comparison.difference, variance, num_seeds=comparison.num_seeds, num_tests=num_tests
        ),
    )


def _metric(runs: Mapping[int, RunRecord], name: str) -> dict[int, float]:
    """The value of each seed, of the runs that have a finite one."""
    found = {seed: run.metrics[name].value for seed, run in runs.items() if name in run.metrics}
    return {seed: value for seed, value in found.items() if isfinite(value)}


def _count(runs: Mapping[int, RunRecord], name: str) -> int | None:
    return next((round(value) for value in _metric(runs, name).values()), None)


def _spread(values: list[float]) -> Spread | None:
    return Spread(median=median(values), low=min(values), high=max(values)) if values else None


def _speed(study: Study, variant: str) -> Mapping[str, Any]:
    """What the study's speed record says of a variant; empty where it says nothing."""
    record = study.extras.get("speed")
    listed = record.labels.get("variants", []) if record else []
    return next((row for row in listed if isinstance(row, dict) and row.get("name") == variant), {})


def _latency(study: Study, variant: str) -> Spread | None:
    spread = _speed(study, variant).get("latency_ms")
    if not isinstance(spread, dict):
        return None
    values = [_number(spread.get(key)) for key in ("median", "low", "high")]
    return None if None in values else Spread(median=values[0] or 0.0, low=values[1] or 0.0, high=values[2] or 0.0)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _per_class(runs: Mapping[int, RunRecord]) -> dict[int, list[float]]:
    """Each seed's accuracy of each class, where it was recorded as numbers."""
    lists = {seed: run.labels.get("per_class_accuracy") for seed, run in runs.items()}
    return {
        seed: [float(value) for value in values]
        for seed, values in lists.items()
        if isinstance(values, list) and values and all(isinstance(value, int | float) for value in values)
    }


def _mean_lists(lists: Mapping[int, list[float]]) -> tuple[float, ...] | None:
    if len({len(values) for values in lists.values()}) != 1:
        return None
    return tuple(sum(column) / len(column) for column in zip(*lists.values(), strict=True))


def _per_class_difference(study: Study, runs: Mapping[int, RunRecord]) -> tuple[float, ...] | None:
    ours = _per_class(runs)
    base = _per_class({seed: run for seed, run in study.runs[study.base].items() if run.error is None})
    common = ours.keys() & base.keys()
    mine, theirs = (_mean_lists({seed: lists[seed] for seed in common}) for lists in (ours, base))
    if mine is None or theirs is None or len(mine) != len(theirs):
        return None
    return tuple(a - b for a, b in zip(mine, theirs, strict=True))


def _curves(runs: Mapping[int, RunRecord]) -> dict[str, dict[int, list[float]]]:
    columns = dict.fromkeys(column for run in runs.values() for column in run.history if column != "epoch")
    return {
        column: {seed: run.history[column] for seed, run in runs.items() if run.history.get(column)}
        for column in columns
    }
