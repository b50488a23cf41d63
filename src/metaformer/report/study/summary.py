"""From the records of a study to one row a variant."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from metaformer.core.measurement import Numbers
from metaformer.core.records import Failure, Spread, Training, Variant, VariantSpeed
from metaformer.report.stats import statistics
from metaformer.report.stats.moderated_variance import Variance
from metaformer.report.stats.seed_spread import SeedSpread, mean_variances, seed_spread
from metaformer.report.stats.statistics import Comparison
from metaformer.report.study import provenance
from metaformer.report.study.headline import headline as headline
from metaformer.report.study.load import LoadedStudy, Runs
from metaformer.report.study.row import Row


def summarize(study: LoadedStudy) -> list[Row]:
    """One row a variant, in the study's order.

    A run that failed counts as failed: its numbers enter no mean.
    """
    measured = [_measure(study, variant) for variant in study.variants]
    return _compare(_estimate(measured))


def base_of(rows: list[Row]) -> Row:
    """The row that the others are compared to."""
    return next(row for row in rows if row.is_base)


def _measure(study: LoadedStudy, variant: Variant) -> Row:
    good, speed = study.good_runs(variant.name), _speed(study, variant.name)
    base_top1 = next(other.paper_top1_percent for other in study.variants if other.name == study.base)
    both = None not in (variant.paper_top1_percent, base_top1) and variant.paper_same_size
    cost = next((run.cost for run in good.values() if run.cost), None)
    other = study.other_conditions.get(variant.name, "")
    return Row(
        name=variant.name,
        title=variant.title,
        change=variant.change,
        paper_top1=variant.paper_top1_percent,
        paper_note=variant.paper_note,
        paper_difference=(variant.paper_top1_percent or 0.0) - (base_top1 or 0.0) if both and not other else None,
        is_base=variant.name == study.base,
        control=variant.control,
        comparable=not variant.control and not other,
        other_conditions=other,
        changed_settings=tuple(setting.path for setting in provenance.changed_settings(study, variant.name)),
        values=accuracies(good),
        params=cost.params if cost else None,
        frozen=cost.frozen if cost else None,
        macs=cost.macs if cost else None,
        images_per_second=_spread([run.images_per_second for run in good.values()]),
        latency_ms=speed.latency_ms if speed else None,
        memory_mib=speed.memory_mib if speed else None,
        per_class_difference=None if other else _per_class_difference(study, good),
        curves=_curves(good),
        failures=_failures(study.runs[variant.name]),
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
        differences = (
            [] if row.is_base or row.other_conditions else statistics.paired_differences(row.values, base.values)
        )
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
        return replace(row, why_no_verdict=row.other_conditions)
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


def accuracies(runs: Mapping[int, Training]) -> dict[int, float]:
    """Test accuracy in % of each seed whose run has one."""
    found = {seed: run.test_accuracy_percent for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _failures(runs: Runs) -> dict[int, Failure]:
    return {seed: run.failure for seed, run in runs.items() if run.failure is not None}


def _spread(values: list[float]) -> Spread | None:
    return Spread(median=median(values), low=min(values), high=max(values)) if values else None


def _speed(study: LoadedStudy, variant: str) -> VariantSpeed | None:
    """What the study's speed record says of a variant."""
    listed = study.speed.measured.variants if study.speed else ()
    return next((one for one in listed if one.name == variant), None)


def _per_class(runs: Mapping[int, Training]) -> dict[int, list[float]]:
    """Each seed's accuracy of each class, where every class was tested."""
    lists = {
        seed: [value for value in run.per_class_accuracy_percent if value is not None] for seed, run in runs.items()
    }
    return {
        seed: values
        for seed, values in lists.items()
        if values and len(values) == len(runs[seed].per_class_accuracy_percent)
    }


def _mean_lists(lists: Mapping[int, list[float]]) -> tuple[float, ...] | None:
    if len({len(values) for values in lists.values()}) != 1:
        return None
    return tuple(sum(column) / len(column) for column in zip(*lists.values(), strict=True))


def _per_class_difference(study: LoadedStudy, runs: Mapping[int, Training]) -> tuple[float, ...] | None:
    ours, base = _per_class(runs), _per_class(study.good_runs(study.base))
    common = ours.keys() & base.keys()
    mine, theirs = (_mean_lists({seed: lists[seed] for seed in common}) for lists in (ours, base))
    if mine is None or theirs is None or len(mine) != len(theirs):
        return None
    return tuple(a - b for a, b in zip(mine, theirs, strict=True))


def _curves(runs: Mapping[int, Training]) -> dict[str, dict[int, Numbers]]:
    return {
        column: {seed: values for seed, run in runs.items() if (values := getattr(run.history, column))}
        for column in ("validation_accuracy_percent", "validation_loss", "train_loss")
    }
