"""Runs a study: side by side on the cores, each run in its own process, finished runs never repeated."""

import multiprocessing
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from metaformer.core.errors import ConfigError
from metaformer.core.machine import available_cores
from metaformer.data.sources import open_data
from metaformer.study.config import StudyConfig, choose_variants
from metaformer.study.folder import StudyFolder, extended, is_finished, plan
from metaformer.study.worker import PRELOAD, work, write_failure
from metaformer.train.loop import check_optimizer
from metaformer.train.run import Run


@dataclass(frozen=True, kw_only=True)
class StudyEvent:
    """Something that a person who watches wants to know."""

    kind: str  # "skipped" (was finished before), "started", "epoch", "finished" or "failed"
    run: Run
    epoch: int = 0  # how many are done
    validation_accuracy: float | None = None  # percent
    images_per_second: float | None = None  # in training
    reason: str = ""  # why a run failed


@dataclass(frozen=True, kw_only=True)
class _Worker:
    process: BaseProcess
    progress: Connection
    run: Run
    started: float


def run_study(
    study: StudyConfig,
    *,
    out: Path,
    command: str,
    variants: tuple[str, ...] = (),
    num_workers: int | None = None,
) -> Generator[StudyEvent, None, None]:
    """Performs what is not finished yet, one event at a time; closing the iterator stops the study.

    Args:
        study: The study, with all its variants.
        out: Its folder; what is finished there stays.
        command: The command that repeats it, for the records.
        variants: Names of the variants to run; none means all.
        num_workers: Runs side by side; None means one a core. Threads are divided among them.

    Raises:
        ConfigError: A setting is wrong, or the folder holds something else.
    """
    num_workers = num_workers if num_workers is not None else available_cores()
    if num_workers < 1:
        raise ConfigError(f"workers must be at least 1; got {num_workers}.")
    check_optimizer(study.train)
    data = open_data(study.data)
    chosen = replace(study, variants=choose_variants(study, variants)) if variants else study
    folder = StudyFolder(out, extended(chosen, study, out), data, command)
    runs = plan(chosen)
    finished = [run for run in runs if is_finished(out, run)]
    folder.open()
    yield from (StudyEvent(kind="skipped", run=run, epoch=run.train.epochs) for run in finished)
    started = time.perf_counter()
    waiting = deque(run for run in runs if run not in finished)
    num_threads = max(1, available_cores() // num_workers)
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < num_workers:
                workers.append(_start(waiting.popleft(), out, num_threads, command))
                yield StudyEvent(kind="started", run=workers[-1].run)
            for worker in _ready(workers):
                event = _next_event(worker, out, command)
                if event.kind in ("finished", "failed"):
                    worker.process.join()
                    workers.remove(worker)
                yield event
    finally:
        _stop(workers)
        folder.close(time.perf_counter() - started)


def _start(run: Run, out: Path, num_threads: int, command: str) -> _Worker:
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(run, out, num_threads, command, sender), daemon=True)
    process.start()
    # The child has the other end now; with ours closed, its death is an end of file.
    sender.close()
    return _Worker(process=process, progress=receiver, run=run, started=time.perf_counter())


def _context() -> Any:
    """Forked from a server that has imported everything, where the system can; each run then starts at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def _ready(workers: list[_Worker]) -> list[_Worker]:
    ready = wait([worker.progress for worker in workers], timeout=1.0)
    return [worker for worker in workers if worker.progress in ready]


def _next_event(worker: _Worker, out: Path, command: str) -> StudyEvent:
    try:
        return StudyEvent(run=worker.run, **worker.progress.recv())
    except (EOFError, OSError):
        worker.process.join()
        reason = f"the process ended without a word (exit code {worker.process.exitcode})"
        with suppress(OSError):
            seconds = time.perf_counter() - worker.started
            write_failure(worker.run, out, command, reason=reason, wall_time_s=seconds)
        return StudyEvent(kind="failed", run=worker.run, reason=reason)


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join()
