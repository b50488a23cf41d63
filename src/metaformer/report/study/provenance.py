"""What was run, and where: configs, machines, failures, as tables for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from metaformer.core.configs import to_dict
from metaformer.core.records import RUN_FILE, Record, Training
from metaformer.report.number_text import seconds
from metaformer.report.study.load import LoadedStudy
from metaformer.report.study.row import Row

ABSENT = "(not set)"
# What a study's record says for all rows, as each run's record repeats it.
SHARED = ("data", "preparation", "train")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a config that differs from the base's."""

    path: str
    base: str
    here: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where some of the runs were made: each differing machine, set of versions or commit is one."""

    facts: dict[str, str]
    versions: dict[str, str]
    commit: str
    num_runs: int


def all_runs(study: LoadedStudy) -> list[Record[Training]]:
    """Every run of the study that could be read."""
    return [run for by_seed in study.runs.values() for run in by_seed.values()]


def flatten(values: Any, path: str = "") -> dict[str, str]:
    """A nested config as dotted settings, {"train.epochs": "15"}; a component is one setting, pooling(pool_size=3)."""
    if isinstance(values, dict) and values and "type" not in values:
        return {
            inner: text
            for key, value in values.items()
            for inner, text in flatten(value, f"{path}.{key}" if path else str(key)).items()
        }
    return {path: _text(values)}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        options = ", ".join(f"{key}={_text(option)}" for key, option in value.items() if key != "type")
        return f"{value.get('type', '')}({options})" if options or "type" not in value else str(value["type"])
    if isinstance(value, list):
        return _list_text(value)
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    return str(value)


def _list_text(values: list[Any]) -> str:
    """With repeated components counted: pooling x 2, attention x 2."""
    if not any(isinstance(value, dict) for value in values):
        return ", ".join(_text(value) for value in values) or "none"
    groups = [(text, len(list(same))) for text, same in groupby(_text(value) for value in values)]
    return ", ".join(text if number == 1 else f"{text} x {number}" for text, number in groups)


def base_config(study: LoadedStudy) -> dict[str, str]:
    """The config of the base's first run, without its name and seed."""
    return settings_of(study, study.base)


def changed_settings(study: LoadedStudy, variant: str) -> list[Setting]:
    """The settings in which the config of a variant differs from the base's; none while one of the two has no run."""
    return differing_settings(study, variant, study.base)


def differing_settings(study: LoadedStudy, variant: str, other: str) -> list[Setting]:
    """The settings in which the config of a variant differs from that of another one."""
    here, base = settings_of(study, variant), settings_of(study, other)
    if not here or not base:
        return []
    paths = dict.fromkeys([*base, *here])
    return [
        Setting(path=path, base=_at(path, base), here=_at(path, here))
        for path in paths
        # A component that one of the two lacks is one difference, not one for each of its settings.
        if base.get(path) != here.get(path) and not any(path.startswith(f"{other}.") for other in paths)
    ]


def _at(path: str, config: Mapping[str, str]) -> str:
    inside = [f"{inner[len(path) + 1 :]}={text}" for inner, text in config.items() if inner.startswith(f"{path}.")]
    return config.get(path) or ", ".join(inside) or ABSENT


def config_differences(study: LoadedStudy) -> dict[str, list[Setting]]:
    """Variant -> what it changes, for the variants that have a run."""
    if not study.runs[study.base]:
        return {}
    return {name: changed_settings(study, name) for name, runs in study.runs.items() if runs and name != study.base}


def settings_of(study: LoadedStudy, variant: str) -> dict[str, str]:
    """Every setting of a variant but its name and seed: of its first run, else as planned."""
    runs = study.runs[variant]
    config = runs[min(runs)].config if runs else _planned_config(study, variant)
    return flatten({key: value for key, value in config.items() if key not in ("name", "seed")})


def _planned_config(study: LoadedStudy, variant: str) -> dict[str, Any]:
    """What the study plans for a variant that has no run yet."""
    planned = study.record.config.get("variants")
    rows = [row for row in planned if isinstance(row, dict)] if isinstance(planned, list) else []
    row = next((row for row in rows if _named(row) == variant and row.get("model")), None)
    if row is None:
        return {}
    shared = {key: study.record.config[key] for key in SHARED if key in study.record.config}
    own = {"train": row["train"]} if row.get("train") else {}
    return {"model": row["model"]} | shared | own


def _named(row: Mapping[str, Any]) -> object:
    about = row.get("about")
    return about.get("name") if isinstance(about, dict) else None


def places(study: LoadedStudy) -> list[Place]:
    """The machines, versions and commits behind the runs, the most used first."""
    return places_of(all_runs(study) or [study.record])


def places_of(records: Sequence[Record[Any]]) -> list[Place]:
    """The machines, versions and commits behind records, the most used first."""
    counted: dict[tuple[Any, ...], int] = {}
    for run in records:
        known = {key: value for key, value in to_dict(run.machine).items() if value is not None}
        facts = tuple((key.replace("_gib", " (GiB)"), _text(value)) for key, value in known.items())
        key = (facts, tuple(run.versions.items()), run.commit or "unknown")
        counted[key] = counted.get(key, 0) + 1
    found = [
        Place(facts=dict(facts), versions=dict(versions), commit=commit, num_runs=number)
        for (facts, versions, commit), number in counted.items()
    ]
    return sorted(found, key=lambda place: -place.num_runs)


def same_speed(found: Sequence[Place]) -> bool:
    """Whether training speeds may be compared: one machine, one set of versions."""
    return len({(tuple(place.facts.items()), tuple(place.versions.items())) for place in found}) <= 1


def problems(study: LoadedStudy, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(What, why) for each run that is missing, failed, or could not be read."""
    found = [
        (f"{row.title}, seed {seed}", f"failed: {failure.message}")
        for row in rows
        for seed, failure in row.failures.items()
    ]
    found += [
        (f"{row.title}, seed {seed}", "ended without a test accuracy")
        for row in rows
        for seed in study.runs[row.name]
        if seed not in row.values and seed not in row.failures
    ]
    found += [
        (f"{row.title}, seed {seed}", "no record: not run yet, or stopped")
        for row in rows
        for seed in row.missing
        if f"{row.name}/seed{seed}/{RUN_FILE}" not in study.unreadable
    ]
    found += [(path, error) for path, error in study.unreadable.items()]
    return found


def duration(study: LoadedStudy) -> str:
    """How long the runs took, added up."""
    return seconds(sum(run.wall_time_s for run in all_runs(study)))
