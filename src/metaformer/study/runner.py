"""Runs a study: finished runs never repeated, broken ones continued, failed ones tried again."""

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from metaformer.core.errors import ConfigError, unknown
from metaformer.data.source import DataSource
from metaformer.data.sources import open_data
from metaformer.study.config import StudyConfig, choose_variants
from metaformer.study.event import Executor, StudyEvent
from metaformer.study.folder import StudyFolder, adopt, extended, finished_before, plan
from metaformer.study.local_processes import LocalProcesses
from metaformer.train.config import Run
from metaformer.train.optimizer import check_optimizer


def run_study(
    study: StudyConfig,
    *,
    out: Path,
    command: str,
    variants: tuple[str, ...] = (),
    num_workers: int | None = None,
    executor: Executor | None = None,
    adopt_from: Path | None = None,
    data: DataSource | None = None,
) -> Generator[StudyEvent, None, None]:
    """Performs what is not finished yet, one event at a time; closing the iterator stops the study.

    Args:
        study: The study, with all its variants.
        out: Its folder; what is finished there stays.
        command: The command that repeats it, for the records.
        variants: Names of the variants to run; none means all.
        num_workers: Runs side by side on this machine; None: one a GPU, or a core where there is none.
        executor: Who performs the runs, where that is not this machine alone.
        adopt_from: The folder of another study, whose finished runs of the same settings are taken over.
        data: The study's data, where the caller has opened them already.

    Raises:
        ConfigError: A setting is wrong, or the folder holds something else.
    """
    executor = executor or LocalProcesses(num_workers=num_workers)
    chosen = replace(study, variants=choose_variants(study, variants)) if variants else study
    _check(study, chosen)
    data = data or open_data(study.data, study.preparation)
    if not data.facts.num_test:
        # Said before anything is trained: without it every row would end without a result.
        raise ConfigError(
            f"{data.facts.title} has no test split with labels, and a study is judged by one. Give data that have one: "
            "in a folder of images, hold out a part of each class as test/."
        )
    folder = StudyFolder(out, extended(chosen, study, out), data, command)
    runs = plan(chosen)
    before = _open(folder, runs, adopt_from)
    yield from (event for event in before if event)
    started = time.perf_counter()
    try:
        left = [run for event, run in zip(before, runs, strict=True) if not event]
        yield from executor.perform(left, out, command=command)
    finally:
        folder.close(time.perf_counter() - started)


def _check(study: StudyConfig, chosen: StudyConfig) -> None:
    """Refuses what would only show after the training."""
    names = [variant.name for variant in study.variants]
    if study.base not in names:
        raise unknown("StudyConfig.base", study.base, names)
    for variant in chosen.variants:
        check_optimizer(variant.train or study.train)


def _open(folder: StudyFolder, runs: list[Run], adopt_from: Path | None) -> list[StudyEvent | None]:
    """The event of each run that is finished; writes nothing before all that is there has been checked."""
    before = [finished_before(folder.out, run) for run in runs]
    folder.open()
    if adopt_from is None:
        return before
    return [event or _adopted(run, adopt_from, folder.out) for event, run in zip(before, runs, strict=True)]


def _adopted(run: Run, source: Path, out: Path) -> StudyEvent | None:
    return finished_before(out, run) if adopt(run, source, out) else None
