"""A study folder as one object: the study's own record, and the run of each variant and seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from metaformer.core.errors import DataError
from metaformer.core.records import (
    RUN_FILE,
    Record,
    Scaling,
    Speed,
    Study,
    StudyData,
    Training,
    Tuning,
    Variant,
    read_record,
)

R = TypeVar("R")
Runs = dict[int, Record[Training]]  # by seed, failed ones included


@dataclass(frozen=True, kw_only=True)
class LoadedStudy:
    """What a study folder holds; runs that are absent or broken are named, not fatal."""

    folder: Path
    record: Record[Study]
    variants: tuple[Variant, ...]  # in the order of the table
    seeds: tuple[int, ...]  # planned
    runs: dict[str, Runs]  # by variant
    unreadable: dict[str, str]  # path inside the folder -> why it was left out
    scaling: Record[Scaling] | None = None
    speed: Record[Speed] | None = None
    tuning: Record[Tuning] | None = None
    tuned: "LoadedStudy | None" = None  # the same variants, each at its own learning rate
    seeds_of: dict[str, tuple[int, ...]] = field(default_factory=dict)  # where a variant has others than `seeds`
    # Rows that another study added under other conditions, and which: they are compared with no row of this one.
    other_conditions: dict[str, str] = field(default_factory=dict)

    @property
    def about(self) -> Study:
        return self.record.measured

    @property
    def base(self) -> str:
        """The variant that the others are compared to."""
        return self.about.base

    @property
    def data(self) -> StudyData:
        return self.about.data

    def good_runs(self, variant: str) -> dict[int, Training]:
        """Results by seed, of the runs that ended well."""
        return {seed: run.result for seed, run in self.runs[variant].items() if run.result is not None}

    def missing_seeds(self, variant: str) -> tuple[int, ...]:
        """Planned seeds that left no record."""
        return tuple(seed for seed in self.seeds_of.get(variant, self.seeds) if seed not in self.runs[variant])


def load_study(folder: Path) -> LoadedStudy:
    """Reads what `metaformer study` wrote.

    Raises:
        DataError: The folder is not a study. A broken run inside it is only reported, in `unreadable`.
    """
    folder = Path(folder)
    record = _study_record(folder)
    about = record.measured
    runs: dict[str, Runs] = {variant.name: {} for variant in about.variants}
    unreadable: dict[str, str] = {}
    for path in sorted(folder.glob(f"*/seed*/{RUN_FILE}")):
        try:
            _file(read_record(path, Training), runs)
        except DataError as error:
            unreadable[path.relative_to(folder).as_posix()] = str(error)
    return LoadedStudy(
        folder=folder,
        record=record,
        variants=about.variants,
        seeds=tuple(sorted(about.seeds)),
        runs={name: dict(sorted(by_seed.items())) for name, by_seed in runs.items()},
        unreadable=unreadable,
        scaling=_extra(folder, "scaling", Scaling, unreadable),
        speed=_extra(folder, "speed", Speed, unreadable),
        tuning=_extra(folder, "tuning", Tuning, unreadable),
        tuned=_tuned(folder, unreadable),
    )


def _extra(folder: Path, name: str, kind: type[R], unreadable: dict[str, str]) -> Record[R] | None:
    """A record of another kind, in the folder of its name."""
    if not (folder / name / RUN_FILE).is_file():
        return None
    try:
        record = read_record(folder / name, kind)
        _ = record.measured
        return record
    except DataError as error:
        unreadable[f"{name}/{RUN_FILE}"] = str(error)
        return None


def _tuned(folder: Path, unreadable: dict[str, str]) -> LoadedStudy | None:
    if not (folder / "tuned" / RUN_FILE).is_file():
        return None
    try:
        return load_study(folder / "tuned")
    except DataError as error:
        unreadable[f"tuned/{RUN_FILE}"] = str(error)
        return None


def _study_record(folder: Path) -> Record[Study]:
    hint = "Give the folder that 'metaformer study' wrote, such as runs/quick."
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. {hint}")
    if not (folder / RUN_FILE).is_file():
        raise DataError(f"{folder} is not a study: it holds no {RUN_FILE}. {hint}")
    return read_record(folder, Study)


def _file(record: Record[Training], runs: Mapping[str, Runs]) -> None:
    """Puts a run where it belongs.

    Raises:
        DataError: It belongs nowhere in this study.
    """
    if record.seed is None:
        raise DataError("names no seed")
    if record.name not in runs:
        raise DataError(f"belongs to {record.name!r}, which is not a variant of this study")
    if record.seed in runs[record.name]:
        raise DataError(f"repeats {record.name!r}, seed {record.seed}")
    runs[record.name][record.seed] = record
