"""The folder of a study: its own record, and a folder for each run."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

from metaformer.core.configs import to_dict
from metaformer.core.difference import first_difference
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import RUN_FILE, Record, Recorder, Study, StudyData, Training, read_record
from metaformer.data.source import DataSource
from metaformer.study.config import StudyConfig
from metaformer.study.event import StudyEvent
from metaformer.study.samples import samples_png
from metaformer.train.config import Run


def run_folder(out: Path, run: Run) -> Path:
    """Where a run leaves its record."""
    return out / run.name / f"seed{run.seed}"


def plan(config: StudyConfig) -> list[Run]:
    """All runs of a study: every variant with the first seed, then with the next, so that a part is fair too."""
    return [
        Run(
            name=variant.name,
            model=variant.model,
            data=config.data,
            preparation=config.preparation,
            train=variant.train or config.train,
            seed=seed,
        )
        for seed in config.seeds
        for variant in config.variants
    ]


def finished_before(out: Path, run: Run) -> StudyEvent | None:
    """The event of a run whose record is there, for the same settings; None for one that must be done.

    A record of a failed run does not count: the run is tried again. One that diverged would diverge again.

    Raises:
        ConfigError: The folder holds a run of this name with other settings.
    """
    folder = run_folder(out, run)
    record = _record_of(folder)
    if record is None:
        return None
    if record.config != to_dict(run):
        raise ConfigError(
            f"{folder} holds a run with other settings ({first_difference(record.config, to_dict(run))}). "
            "Choose another --out, or delete that folder."
        )
    if not _is_final(record):
        return None
    return StudyEvent(kind="skipped", run=run, epoch=run.train.epochs, failure=record.failure)


def adopt(run: Run, source: Path, out: Path) -> bool:
    """Copies a finished run of the same settings from another study's folder; whether there was one."""
    there, here = run_folder(source, run), run_folder(out, run)
    record = None if here.exists() else _record_of(there)
    if record is None or not _is_final(record) or record.config != to_dict(run):
        return False
    # Under another name until all is there: half a copy must not look like a run.
    half = here.with_name(f".{here.name}.part")
    rmtree(half, ignore_errors=True)
    copytree(there, half)
    half.rename(here)
    return True


def _record_of(folder: Path) -> Record[Training] | None:
    """A run's record, where it can be read."""
    if not (folder / RUN_FILE).is_file():
        return None
    try:
        return read_record(folder, Training)
    except DataError:
        return None


def _is_final(record: Record[Training]) -> bool:
    return record.failure is None or record.failure.is_final


class StudyFolder:
    """Keeps the study's own record up to date."""

    def __init__(self, out: Path, study: StudyConfig, data: DataSource, command: str) -> None:
        self.out, self.study, self.data = out, study, data
        old = read_study_record(out) if (out / RUN_FILE).is_file() else None
        self._earlier_s = old.wall_time_s if old else 0.0
        self._started = old.started if old else None
        # A study made in parts is made again by all of its commands, in their order.
        self.command = "\n".join(dict.fromkeys([*(old.command.splitlines() if old else []), command]))

    def open(self) -> None:
        """Writes the record, so that a report can be made at any time.

        Raises:
            DataError: The folder cannot be written.
        """
        try:
            self._write(self._earlier_s)
        except OSError as error:
            raise DataError(f"cannot write into {self.out}: {error.strerror or error}.") from None

    def close(self, seconds: float) -> None:
        """Adds this session's time; a study that is continued adds up."""
        with suppress(OSError):
            self._write(self._earlier_s + seconds)

    def _write(self, wall_time_s: float) -> None:
        record = replace(study_record(self.study, self.data, self.command), wall_time_s=wall_time_s)
        # The first session began it; the sessions after that only go on.
        self._started = self._started or record.started
        replace(record, started=self._started).write(self.out)


def _holds_something(out: Path) -> bool:
    try:
        return out.exists() and not (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise DataError(f"cannot read {out}: {error.strerror or error}.") from None


def extended(chosen: StudyConfig, study: StudyConfig, out: Path) -> StudyConfig:
    """The chosen part of a study and its base, with every variant and seed that its folder already holds.

    Raises:
        ConfigError: The folder holds something else, or the same study with other settings.
    """
    names, seeds = {study.base, *(variant.name for variant in chosen.variants)}, chosen.seeds
    if _holds_something(out):
        old = read_study_record(out)
        there, here = _shared_settings(old.config), _shared_settings(to_dict(study))
        if there != here:
            raise ConfigError(
                f"{out} holds a study with other settings ({first_difference(there, here)}). "
                "Choose another --out, or delete that folder."
            )
        names |= {variant.name for variant in old.measured.variants}
        seeds = tuple(sorted({*seeds, *old.measured.seeds}))
    rows = tuple(variant for variant in study.variants if variant.name in names)
    return replace(chosen, variants=rows, seeds=seeds)


def study_record(config: StudyConfig, data: DataSource, command: str) -> Record[Study]:
    """What a report needs to know of the study as a whole."""
    facts = data.facts
    recorder = Recorder(Study, name=config.name, config=to_dict(config), command=command, seed=None)
    recorder.result = Study(
        title=config.title,
        question=config.question,
        base=config.base,
        data=StudyData(
            name=facts.name,
            title=facts.title,
            description=facts.description,
            num_train=facts.num_train,
            num_validation=facts.num_validation,
            num_test=facts.num_test,
            num_classes=len(facts.class_names),
            chance_accuracy_percent=100 / len(facts.class_names),
        ),
        variants=tuple(variant.about for variant in config.variants),
        seeds=config.seeds,
        samples_png=samples_png(data),
    )
    return recorder.finish()


def read_study_record(out: Path) -> Record[Study]:
    """The study's own record.

    Raises:
        ConfigError: The folder holds something else.
        DataError: The record cannot be read.
    """
    if not (out / RUN_FILE).is_file():
        what = "is a file" if out.is_file() else "holds something else than a study"
        raise ConfigError(f"{out} {what}. Choose another --out, or an empty folder.")
    record: Record[Any] = read_record(out)
    if record.kind != "study":
        raise ConfigError(f"{out} holds a record of kind {record.kind!r}, not a study. Choose another --out.")
    return record


def _shared_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What must not change when a study is extended."""
    return {key: config.get(key) for key in ("name", "base", "data", "preparation", "train")}
