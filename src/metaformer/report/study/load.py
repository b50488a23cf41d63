"""A study folder as one object: the study's own record, and the run of each variant and seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaformer.core.errors import DataError
from metaformer.core.run_record import RUN_FILE, RunRecord, read_run_record

EXTRAS = ("scaling", "speed", "tuning")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the study, as the study's record declares it."""

    name: str
    title: str
    change: str  # what differs from the base, as text
    paper_top1: float | None = None  # %, what the paper reports for this row
    paper_note: str = ""  # on which data and model
    paper_same_size: bool = True  # that model is of the size of the base's in the paper
    comparable: bool = True  # its spread over seeds is of the same kind as the others'
    control: bool = False  # a row that is meant to fail


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study folder holds; runs that are absent or broken are named, not fatal."""

    folder: Path
    record: RunRecord
    variants: tuple[Variant, ...]  # in the order of the table
    base: str  # the variant that the others are compared to
    primary: str  # the metric that decides
    seeds: tuple[int, ...]  # planned, or else seen
    runs: dict[str, dict[int, RunRecord]]  # variant -> seed -> its run, failed ones included
    unreadable: dict[str, str]  # path inside the folder -> why it was left out
    extras: dict[str, RunRecord] = field(default_factory=dict)  # "scaling", "speed", "tuning": what else was measured
    tuned: "Study | None" = None  # the same variants, each at its own learning rate
    seeds_of: dict[str, tuple[int, ...]] = field(default_factory=dict)  # where a variant has others than `seeds`

    @property
    def title(self) -> str:
        return str(self.record.labels.get("title") or self.record.name)

    @property
    def question(self) -> str:
        return str(self.record.labels.get("question") or self.title)

    @property
    def data(self) -> dict[str, Any]:
        """What the study says about its data; empty if it says nothing."""
        data = self.record.labels.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def data_title(self) -> str:
        return str(self.data.get("title") or self.data.get("name") or "this data")

    def missing_seeds(self, variant: str) -> tuple[int, ...]:
        """Planned seeds that left no record."""
        return tuple(seed for seed in self.seeds_of.get(variant, self.seeds) if seed not in self.runs[variant])


def load_study(folder: Path) -> Study:
    """Reads what `metaformer study` wrote.

    Raises:
        DataError: The folder is not a study. A broken run inside it is only reported, in `unreadable`.
    """
    folder = Path(folder)
    record = _study_record(folder)
    variants = _variants(folder, record.labels)
    base = record.labels.get("base", variants[0].name)
    if base not in {variant.name for variant in variants}:
        raise DataError(f"{folder / RUN_FILE} compares to {base!r}, which is not one of its variants.")
    runs: dict[str, dict[int, RunRecord]] = {variant.name: {} for variant in variants}
    unreadable: dict[str, str] = {}
    for path in sorted(folder.glob(f"*/seed*/{RUN_FILE}")):
        place = path.relative_to(folder).as_posix()
        try:
            _file(read_run_record(path), runs)
        except DataError as error:
            unreadable[place] = str(error)
    extras, tuned = _extras(folder, unreadable), _tuned(folder, unreadable)
    return Study(
        folder=folder,
        record=record,
        variants=variants,
        base=base,
        primary=str(record.labels.get("primary", "test_accuracy")),
        seeds=_planned_seeds(record.config) or _seen_seeds(runs),
        runs={name: dict(sorted(by_seed.items())) for name, by_seed in runs.items()},
        unreadable=unreadable,
        extras=extras,
        tuned=tuned,
    )


def _extras(folder: Path, unreadable: dict[str, str]) -> dict[str, RunRecord]:
    """Records of other kinds, each in the folder of its name."""
    found = {}
    for kind in EXTRAS:
        if not (folder / kind / RUN_FILE).is_file():
            continue
        try:
            record = read_run_record(folder / kind)
            if record.kind != kind:
                raise DataError(f"is a {record.kind!r} record, not one of kind {kind!r}")
            found[kind] = record
        except DataError as error:
            unreadable[f"{kind}/{RUN_FILE}"] = str(error)
    return found


def _tuned(folder: Path, unreadable: dict[str, str]) -> Study | None:
    if not (folder / "tuned" / RUN_FILE).is_file():
        return None
    try:
        return load_study(folder / "tuned")
    except DataError as error:
        unreadable[f"tuned/{RUN_FILE}"] = str(error)
        return None


def _study_record(folder: Path) -> RunRecord:
    hint = "Give the folder that 'metaformer study' wrote, such as runs/quick."
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. {hint}")
    if not (folder / RUN_FILE).is_file():
        raise DataError(f"{folder} is not a study: it holds no {RUN_FILE}. {hint}")
    record = read_run_record(folder)
    if record.kind != "study":
        raise DataError(f"{folder} holds a {record.kind!r} record, not a study. {hint}")
    return record


def _variants(folder: Path, labels: Mapping[str, Any]) -> tuple[Variant, ...]:
    rows = labels.get("variants")
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{folder / RUN_FILE} lists no variants: 'labels.variants' must be a list of at least one.")
    variants = tuple(_variant(folder, row) for row in rows)
    if len({variant.name for variant in variants}) < len(variants):
        raise DataError(f"{folder / RUN_FILE} lists a variant twice: names in 'labels.variants' must differ.")
    return variants


def _variant(folder: Path, row: Any) -> Variant:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise DataError(f"{folder / RUN_FILE}: each of 'labels.variants' must be an object with a 'name'; got {row!r}")
    top1 = row.get("paper_top1")
    return Variant(
        name=row["name"],
        title=str(row.get("title") or row["name"]),
        change=str(row.get("change") or ""),
        paper_top1=float(top1) if isinstance(top1, int | float) else None,
        paper_note=str(row.get("paper_note") or ""),
        paper_same_size=bool(row.get("paper_same_size", True)),
        comparable=bool(row.get("comparable", True)),
        control=bool(row.get("control", False)),
    )


def _file(record: RunRecord, runs: dict[str, dict[int, RunRecord]]) -> None:
    """Puts a run where it belongs.

    Raises:
        DataError: It belongs nowhere in this study.
    """
    if record.kind != "train":
        raise DataError(f"is a {record.kind!r} record, not a training run")
    if record.seed is None:
        raise DataError("names no seed")
    if record.name not in runs:
        raise DataError(f"belongs to {record.name!r}, which is not a variant of this study")
    if record.seed in runs[record.name]:
        raise DataError(f"repeats {record.name!r}, seed {record.seed}")
    runs[record.name][record.seed] = record


def _planned_seeds(config: Mapping[str, Any]) -> tuple[int, ...]:
    seeds = config.get("seeds")
    if isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds):
        return tuple(sorted(set(seeds)))
    if isinstance(seeds, int) and 0 < seeds < 1000:
        return tuple(range(seeds))
    return ()


def _seen_seeds(runs: Mapping[str, Mapping[int, RunRecord]]) -> tuple[int, ...]:
    return tuple(sorted({seed for by_seed in runs.values() for seed in by_seed}))
