"""Two studies as one: rows with the same settings join their runs, others stand side by side and say what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metaformer.core.errors import DataError
from metaformer.core.run_record import RunRecord
from metaformer.report import provenance, statistics
from metaformer.report.records import Study, Variant
from metaformer.report.statistics import Verdict

MARK = "@"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A row of one study minus the row of the same name in the other, over common seeds, in points."""

    name: str
    title: str
    settings: tuple[provenance.Setting, ...]  # in which the two differ
    first: float  # mean accuracy over the common seeds, in %
    second: float
    difference: float
    half_width: float | None
    verdict: Verdict


def merge(first: Study, second: Study) -> Study:
    """The rows of both.

    A row of the second study joins that of the first if its name and all its settings but the seed are the same; a seed
    that both have counts once, as the first has it. Any other row keeps its runs for itself; if its name is taken it
    is marked. Rows on other data share no spread with those of the first study.

    Raises:
        DataError: The two are the same folder, or measure different things.
    """
    if first.folder.resolve() == second.folder.resolve():
        raise DataError(f"{second.folder} is compared with itself. Give the folders of two studies.")
    if first.primary != second.primary:
        raise DataError(f"{first.folder} is judged by {first.primary}, {second.folder} by {second.primary}.")
    mark = _mark(first, second)
    names = {variant.name: _name(first, second, variant.name, mark) for variant in second.variants}
    same_data = first.data.get("name") == second.data.get("name")
    known = {variant.name for variant in first.variants}
    added = tuple(
        _marked(variant, names[variant.name], mark, second, same_data=same_data)
        for variant in second.variants
        if names[variant.name] not in known
    )
    runs = {name: dict(by_seed) for name, by_seed in first.runs.items()}
    unreadable = dict(first.unreadable) | {f"{second.folder}/{path}": why for path, why in second.unreadable.items()}
    for old, new in names.items():
        for seed, run in second.runs[old].items():
            here = runs.setdefault(new, {})
            if (
                seed in here
                and here[seed].error is None
                and run.error is None
                and _result(first, here[seed]) != _result(first, run)
            ):
                unreadable[f"{second.folder}/{old}/seed{seed}"] = "repeats a run of the first study with another result"
            if seed not in here or (here[seed].error is not None and run.error is None):
                here[seed] = run
    return replace(
        first,
        variants=(*first.variants, *added),
        runs={name: dict(sorted(by_seed.items())) for name, by_seed in runs.items()},
        seeds=tuple(sorted({*first.seeds, *second.seeds})),
        seeds_of=_planned(first, second, names),
        unreadable=unreadable,
        record=_record(first, second),
        tuned=None,
    )


def changes(first: Study, second: Study) -> list[Change]:
    """For each name that both studies have with different settings: the second's accuracy minus the first's.

    Raises:
        DataError: As `merge`.
    """
    both = merge(first, second)
    mark = _mark(first, second)
    values = {name: _values(both, by_seed) for name, by_seed in both.runs.items()}
    pairs = [
        (variant, f"{variant.name}{MARK}{mark}")
        for variant in first.variants
        if f"{variant.name}{MARK}{mark}" in values and values[variant.name]
    ]
    comparable = {variant.name for variant in both.variants if variant.comparable}
    residual = statistics.residual_variance(
        {name: by_seed for name, by_seed in values.items() if name in comparable and by_seed}
    )
    compared = []
    for variant, other in pairs:
        differences = statistics.paired_differences(values[other], values[variant.name])
        pooled = {variant.name, other} <= comparable
        variance = (residual.times(2.0) if residual else None) if pooled else statistics.pooled_variance([differences])
        comparison = statistics.compare(differences, variance)
        if comparison is not None:
            compared.append((variant, other, comparison))
    corrected = statistics.holm([comparison.p for _, _, comparison in compared])
    return [
        Change(
            name=variant.name,
            title=variant.title,
            settings=tuple(provenance.differing_settings(both, other, variant.name)),
            first=_mean(values[variant.name], values[other]),
            second=_mean(values[other], values[variant.name]),
            difference=comparison.difference,
            half_width=comparison.half_width,
            verdict=statistics.verdict(comparison.difference, p_holm),
        )
        for (variant, other, comparison), p_holm in zip(compared, corrected, strict=True)
    ]


def merge_all(studies: Sequence[Study]) -> Study:
    """Any number of studies, the later ones merged into the first one by one."""
    merged = studies[0]
    for study in studies[1:]:
        merged = merge(merged, study)
    return merged


def _mark(first: Study, second: Study) -> str:
    one, other = first.folder.resolve(), second.folder.resolve()
    return other.name if other.name != one.name else f"{other.parent.name}/{other.name}"


def _name(first: Study, second: Study, name: str, mark: str) -> str:
    known = {variant.name for variant in first.variants}
    if name not in known or (first.runs[name] and _settings(first, name) == _settings(second, name)):
        return name
    return f"{name}{MARK}{mark}" if second.runs[name] else name


def _settings(study: Study, name: str) -> Mapping[str, str]:
    return provenance.settings_of(study, name)


def _marked(variant: Variant, name: str, mark: str, second: Study, *, same_data: bool) -> Variant:
    title = variant.title if name == variant.name else f"{variant.title} ({mark})"
    change = variant.change if same_data else f"on other data, {second.data_title}; {variant.change}"
    return replace(variant, name=name, title=title, change=change, comparable=variant.comparable and same_data)


def _planned(first: Study, second: Study, names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    planned = {variant.name: set(first.seeds_of.get(variant.name, first.seeds)) for variant in first.variants}
    for old, new in names.items():
        planned.setdefault(new, set()).update(second.seeds_of.get(old, second.seeds))
    return {name: tuple(sorted(seeds)) for name, seeds in planned.items()}


def _record(first: Study, second: Study) -> RunRecord:
    labels = first.record.labels | {"title": f"{first.title}; with {second.title}", "question": first.question}
    name = first.record.name if first.record.name == second.record.name else f"{first.record.name}+{second.record.name}"
    return replace(
        first.record,
        name=name,
        labels=labels,
        command=f"{first.record.command}\n{second.record.command}",
        wall_time_s=first.record.wall_time_s + second.record.wall_time_s,
    )


def _result(study: Study, run: RunRecord) -> float | None:
    return run.metrics[study.primary].value if study.primary in run.metrics else None


def _values(study: Study, runs: Mapping[int, RunRecord]) -> dict[int, float]:
    found = {seed: _result(study, run) for seed, run in runs.items() if run.error is None}
    return {seed: value for seed, value in found.items() if value is not None}


def _mean(values: Mapping[int, float], others: Mapping[int, float]) -> float:
    common = [value for seed, value in values.items() if seed in others]
    return sum(common) / len(common)
