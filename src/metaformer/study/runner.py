"""Runs a study: finished runs never repeated, broken ones continued, failed ones tried again."""

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from metaformer.data.source import DataSource
from metaformer.data.sources import open_data
from metaformer.study.config import StudyConfig, choose_variants
from metaformer.study.event import Executor, StudyEvent
from metaformer.study.folder import StudyFolder, adopt, extended, is_finished, plan
from metaformer.study.local_processes import LocalProcesses
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
        num_workers: Runs side by side on this machine; None means one a core. Threads are divided among them.
        executor: Who performs the runs, where that is not this machine alone.
        adopt_from: The folder of another study, whose finished runs of the same settings are taken over.
        data: The study's data, where the caller has opened them already.

    Raises:
        ConfigError: A setting is wrong, or the folder holds something else.
    """
    executor = executor or LocalProcesses(num_workers=num_workers)
    chosen = replace(study, variants=choose_variants(study, variants)) if variants else study
    for variant in chosen.variants:
        check_optimizer(variant.train or study.train)
    data = data or open_data(study.data, study.preparation)
    folder = StudyFolder(out, extended(chosen, study, out), data, command)
    runs = plan(chosen)
    finished = [run for run in runs if is_finished(out, run)]
    folder.open()
    finished += [run for run in runs if run not in finished and adopt_from and adopt(run, adopt_from, out)]
    yield from (StudyEvent(kind="skipped", run=run, epoch=run.train.epochs) for run in finished)
    started = time.perf_counter()
    try:
        yield from executor.perform([run for run in runs if run not in finished], out, command=command)
    finally:
        folder.close(time.perf_counter() - started)
