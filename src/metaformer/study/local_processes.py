"""Runs side by side on the cores of this machine, each in its own process."""

import multiprocessing
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from metaformer.core.errors import ConfigError
from metaformer.core.machine import available_cores
from metaformer.study.event import StudyEvent
from metaformer.study.worker import PRELOAD, work, write_failure
from metaformer.train.run import Run


@dataclass(frozen=True, kw_only=True)
class LocalProcesses:
    """As many runs at once as there are workers; threads are divided among them."""

    num_workers: int | None = None  # None: one a core

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise ConfigError(f"workers must be at least 1; got {self.num_workers}.")

    def perform(self, runs: Sequence[Run], out: Path, *, command: str) -> Generator[StudyEvent, None, None]:
        """Starts runs in their order; closing the iterator stops those that are under way."""
        num_workers = self.num_workers or available_cores()
        num_threads = max(1, available_cores() // num_workers)
        waiting = deque(runs)
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


@dataclass(frozen=True, kw_only=True)
class _Worker:
    process: BaseProcess
    progress: Connection
    run: Run
    started: float


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
