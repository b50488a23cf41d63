"""Two studies as one: rows with the same settings join their runs, others stand side by side and say what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metaformer.core.errors import DataError
from metaformer.core.run_record import RunRecord
from metaformer.report.stats import statistics
from metaformer.report.stats.seed_spread import seed_spread
from metaformer.report.stats.statistics import Verdict
from metaformer.report.study import provenance
from metaformer.report.study.load import Study, Variant
from metaformer.report.study.merged_extras import merged_extras

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

    A row of the second study joins that of the first if its name and all its settings but the seed are the same, and
    the data are, wherever they lie; a seed that both have counts once, as the first has it. Any other row keeps its
    runs for itself; if its name is taken it is marked. Rows on other data, or of another budget or recipe, share no
    spread with those of the first study.

    Raises:
        DataError: The two are the same folder, or measure different things.
    """
    if first.folder.resolve() == second.folder.resolve():
        raise DataError(f"{second.folder} is compared with itself. Give the folders of two studies.")
    if first.primary != second.primary:
        raise DataError(f"{first.folder} is judged by {first.primary}, {second.folder} by {second.primary}.")
    mark = _mark(first, second)
    names = {variant.name: _name(first, second, variant.name, mark) for variant in second.variants}
    known = {variant.name for variant in first.variants}
    added = tuple(
        _marked(variant, names[variant.name], mark, difference=_other_conditions(first, second))
        for variant in second.variants
        if names[variant.name] not in known
    )
    runs, repeated = _joined(first, second, names)
    return replace(
        first,
        variants=(*first.variants, *added),
        runs=runs,
        seeds=tuple(sorted({*first.seeds, *second.seeds})),
        seeds_of=_planned(first, second, names),
        unreadable=first.unreadable
        | {f"{second.folder}/{path}": why for path, why in second.unreadable.items()}
        | repeated,
        record=_record(first, second),
        extras=merged_extras(first, second, names),
        tuned=_tuned(first, second, names),
    )


def _joined(
    first: Study, second: Study, names: Mapping[str, str]
) -> tuple[dict[str, dict[int, RunRecord]], dict[str, str]]:
    """The runs of both under their new names, and which of the second repeat one of the first with another result."""
    runs = {name: dict(by_seed) for name, by_seed in first.runs.items()}
    repeated = {}
    for old, new in names.items():
        here = runs.setdefault(new, {})
        for seed, run in second.runs[old].items():
            is_there = seed in here and here[seed].error is None
            if is_there and run.error is None and _result(first, here[seed]) != _result(first, run):
                repeated[f"{second.folder}/{old}/seed{seed}"] = "repeats a run of the first study with another result"
            if seed not in here or (not is_there and run.error is None):
                here[seed] = run
    return {name: dict(sorted(by_seed.items())) for name, by_seed in runs.items()}, repeated


def _tuned(first: Study, second: Study, names: Mapping[str, str]) -> Study | None:
    """The rows at their own rates, of both; those of the second alone only where its rows have kept their names."""
    if first.tuned and second.tuned:
        return merge(first.tuned, second.tuned)
    if first.tuned or all(old == new for old, new in names.items()):
        return first.tuned or second.tuned
    return None


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
    spread = seed_spread(values, comparable)
    compared = []
    for variant, other in pairs:
        differences = statistics.paired_differences(values[other], values[variant.name])
        comparison = statistics.compare(differences, spread.of_difference(other, variant.name, differences))
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
    same = _same_data(first, second) and _settings(first, name) == _settings(second, name) if name in known else True
    # A row without any run has no settings to differ in, and no results to keep apart.
    return name if same or not second.runs[name] else f"{name}{MARK}{mark}"


def _settings(study: Study, name: str) -> Mapping[str, str]:
    """Those of a row; of its data only the kind, as they may lie elsewhere and `_same_data` compares the rest."""
    settings = provenance.settings_of(study, name)
    return settings | ({"data": _kind(settings["data"])} if "data" in settings else {})


def _same_data(first: Study, second: Study) -> bool:
    """Whether both have the same data, by all that is known but the folder they lie in."""
    here, there = (
        {key: fact for key, fact in study.data.items() if key != "name"}
        | {"kind": _kind(str(study.data.get("name", "")))}
        for study in (first, second)
    )
    return here == there


def _kind(data: str) -> str:
    """Of cifar10:FOLDER, the part before the folder."""
    return data.partition(":")[0]


def _other_conditions(first: Study, second: Study) -> str:
    """In what the second study as a whole differs, so that its spread over seeds is of another kind; "" for nothing."""
    if not _same_data(first, second):
        return f"on other data, {second.data_title}"
    here, there = (
        {part: study.record.config.get(part) for part in ("train", "preparation")} for study in (first, second)
    )
    return "" if here == there else "under another recipe or budget"


def _marked(variant: Variant, name: str, mark: str, *, difference: str) -> Variant:
    title = variant.title if name == variant.name else f"{variant.title} ({mark})"
    change = f"{difference}; {variant.change}" if difference else variant.change
    return replace(variant, name=name, title=title, change=change, comparable=variant.comparable and not difference)


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
