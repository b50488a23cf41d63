"""Two studies as one: rows with the same settings join their runs, others stand side by side and say what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from metaformer.core.errors import DataError
from metaformer.core.records import Record, Study, Variant
from metaformer.report.stats import statistics
from metaformer.report.stats.seed_spread import seed_spread
from metaformer.report.stats.statistics import Verdict
from metaformer.report.study import provenance
from metaformer.report.study.load import LoadedStudy, Runs
from metaformer.report.study.merged_extras import merged_extras
from metaformer.report.study.summary import accuracies

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


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Two studies as one, and under which names the rows of the second stand in it."""

    study: LoadedStudy
    first: LoadedStudy
    names: Mapping[str, str]  # of the second study's rows, old -> new


def merge(first: LoadedStudy, second: LoadedStudy) -> Merged:
    """The rows of both.

    A row of the second study joins that of the first if its name and all its settings but the seed are the same, and
    the data are, wherever they lie; a seed that both have counts once, as the first has it. Any other row keeps its
    runs for itself; if its name is taken it is marked. Rows on other data, or of another budget or recipe, are compared
    with no row of the first study.

    Raises:
        DataError: The two are the same folder.
    """
    if first.folder.resolve() == second.folder.resolve():
        raise DataError(f"{second.folder} is compared with itself. Give the folders of two studies.")
    mark = _mark(first, second)
    names = {variant.name: _name(first, second, variant.name, mark) for variant in second.variants}
    known = {variant.name for variant in first.variants}
    added = [variant for variant in second.variants if names[variant.name] not in known]
    other = _other_conditions(first, second)
    runs, repeated = _joined(first, second, names)
    study = replace(
        first,
        variants=(*first.variants, *(_marked(one, names[one.name], mark, difference=other) for one in added)),
        runs=runs,
        seeds=tuple(sorted({*first.seeds, *second.seeds})),
        seeds_of=_planned(first, second, names),
        unreadable=first.unreadable
        | {f"{second.folder}/{path}": why for path, why in second.unreadable.items()}
        | repeated,
        record=_record(first, second),
        tuned=_tuned(first, second, names),
        other_conditions=first.other_conditions | ({names[one.name]: other for one in added} if other else {}),
        **merged_extras(first, second, names),
    )
    return Merged(study=study, first=first, names=names)


def _joined(
    first: LoadedStudy, second: LoadedStudy, names: Mapping[str, str]
) -> tuple[dict[str, Runs], dict[str, str]]:
    """The runs of both under their new names, and which of the second repeat one of the first with another result."""
    runs = {name: dict(by_seed) for name, by_seed in first.runs.items()}
    repeated = {}
    for old, new in names.items():
        here = runs.setdefault(new, {})
        for seed, run in second.runs[old].items():
            known = here[seed].result if seed in here else None
            if known and run.result and known.test_accuracy_percent != run.result.test_accuracy_percent:
                repeated[f"{second.folder}/{old}/seed{seed}"] = "repeats a run of the first study with another result"
            if seed not in here or (known is None and run.result is not None):
                here[seed] = run
    return {name: dict(sorted(by_seed.items())) for name, by_seed in runs.items()}, repeated


def _tuned(first: LoadedStudy, second: LoadedStudy, names: Mapping[str, str]) -> LoadedStudy | None:
    """The rows at their own rates, of both; those of the second alone only where its rows have kept their names."""
    if first.tuned and second.tuned:
        return merge(first.tuned, second.tuned).study
    if first.tuned or all(old == new for old, new in names.items()):
        return first.tuned or second.tuned
    return None


def changes(merged: Merged) -> list[Change]:
    """For each name that both studies have with different settings: the second's accuracy minus the first's."""
    both = merged.study
    values = {name: accuracies(both.good_runs(name)) for name in both.runs}
    comparable = {one.name for one in both.variants if not one.control and one.name not in both.other_conditions}
    spread = seed_spread(values, comparable)
    compared = []
    for variant in merged.first.variants:
        other = merged.names.get(variant.name, variant.name)
        if other == variant.name:
            continue
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


def _mark(first: LoadedStudy, second: LoadedStudy) -> str:
    one, other = first.folder.resolve(), second.folder.resolve()
    return other.name if other.name != one.name else f"{other.parent.name}/{other.name}"


def _name(first: LoadedStudy, second: LoadedStudy, name: str, mark: str) -> str:
    known = {variant.name for variant in first.variants}
    same = _same_data(first, second) and _settings(first, name) == _settings(second, name) if name in known else True
    # A row without any run has no settings to differ in, and no results to keep apart.
    return name if same or not second.runs[name] else f"{name}{MARK}{mark}"


def _settings(study: LoadedStudy, name: str) -> Mapping[str, str]:
    """Those of a row; of its data only the kind, as they may lie elsewhere and `_same_data` compares the rest."""
    settings = provenance.settings_of(study, name)
    return settings | ({"data": _kind(settings["data"])} if "data" in settings else {})


def _same_data(first: LoadedStudy, second: LoadedStudy) -> bool:
    """Whether both have the same data, by all that is known but the folder they lie in."""
    here, there = (replace(study.data, name=_kind(study.data.name)) for study in (first, second))
    return here == there


def _kind(data: str) -> str:
    """Of cifar10:FOLDER, the part before the folder."""
    return data.partition(":")[0]


def _other_conditions(first: LoadedStudy, second: LoadedStudy) -> str:
    """In what the second study as a whole differs, so that its spread over seeds is of another kind; "" for nothing."""
    if not _same_data(first, second):
        return f"on other data, {second.data.title}"
    here, there = (
        {part: study.record.config.get(part) for part in ("train", "preparation")} for study in (first, second)
    )
    return "" if here == there else "under another recipe or budget"


def _marked(variant: Variant, name: str, mark: str, *, difference: str) -> Variant:
    title = variant.title if name == variant.name else f"{variant.title} ({mark})"
    change = f"{difference}; {variant.change}" if difference else variant.change
    return replace(variant, name=name, title=title, change=change)


def _planned(first: LoadedStudy, second: LoadedStudy, names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    planned = {variant.name: set(first.seeds_of.get(variant.name, first.seeds)) for variant in first.variants}
    for old, new in names.items():
        planned.setdefault(new, set()).update(second.seeds_of.get(old, second.seeds))
    return {name: tuple(sorted(seeds)) for name, seeds in planned.items()}


def _record(first: LoadedStudy, second: LoadedStudy) -> Record[Study]:
    name = first.record.name if first.record.name == second.record.name else f"{first.record.name}+{second.record.name}"
    return replace(
        first.record,
        name=name,
        result=replace(first.about, title=f"{first.about.title}; with {second.about.title}"),
        command=f"{first.record.command}\n{second.record.command}",
        wall_time_s=first.record.wall_time_s + second.record.wall_time_s,
    )


def _mean(values: Mapping[int, float], others: Mapping[int, float]) -> float:
    common = [value for seed, value in values.items() if seed in others]
    return sum(common) / len(common)
