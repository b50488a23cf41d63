"""Runs side by side on the GPUs or cores of this machine, each in its own process."""

import atexit
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from metaformer.core.errors import ConfigError
from metaformer.core.machine import available_cores
from metaformer.core.records import Failure, Recorder, Training
from metaformer.study.event import StudyEvent
from metaformer.study.folder import run_folder
from metaformer.study.worker import EXECUTION, LEAVING_S, PRELOAD, Task, failure_recorder, work
from metaformer.train.config import Execution, Run


@dataclass(frozen=True, kw_only=True)
class LocalProcesses:
    """As many runs at once as there are workers; threads and GPUs are divided among them."""

    num_workers: int | None = None  # None: one a GPU, or a core where there is no GPU
    execution: Execution = EXECUTION  # of every run

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise ConfigError(f"workers must be at least 1; got {self.num_workers}.")

    def perform(self, runs: Sequence[Run], out: Path, *, command: str) -> Generator[StudyEvent, None, None]:
        """Starts runs in their order; closing the iterator stops those that are under way."""
        gpus = gpu_names(self.execution.device)
        num_workers = self.num_workers or len(gpus) or available_cores()
        # A run sees one GPU, which is then the first.
        execution = replace(self.execution, device="cuda") if gpus else self.execution
        num_threads = max(1, available_cores() // num_workers)
        places = deque(gpus[index % len(gpus)] if gpus else None for index in range(num_workers))
        waiting = deque(
            Task(run=run, out=out, command=command, execution=execution, num_threads=num_threads) for run in runs
        )
        workers: list[_Worker] = []
        # If the interpreter ends before this iterator is closed: it would wait for the runs.
        stop = partial(_stop, workers)
        atexit.register(stop)
        try:
            while waiting or workers:
                while waiting and places:
                    workers.append(_start(replace(waiting.popleft(), gpu=places.popleft())))
                    yield StudyEvent(kind="started", run=workers[-1].task.run)
                for worker in _ready(workers):
                    event = _next_event(worker)
                    if event.kind in ("finished", "failed"):
                        worker.process.join()
                        workers.remove(worker)
                        places.append(worker.task.gpu)
                    yield event
        finally:
            stop()
            atexit.unregister(stop)


@dataclass(frozen=True, kw_only=True)
class _Worker:
    process: BaseProcess
    progress: Connection
    task: Task
    recorder: Recorder[Training]


def gpu_names(device: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES would call each GPU that runs may take; none where they run elsewhere.

    Args:
        device: As `execution.device` names it: `auto` and `cuda` are all GPUs, `cuda:1` is one.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    names = [name.strip() for name in visible.split(",")][:count]
    if not number:
        return names
    if not number.isdecimal() or int(number) >= count:
        raise ConfigError(f"execution.device must be one of cuda:0 to cuda:{count - 1} here; got {device!r}.")
    return [names[int(number)]]


def _start(task: Task) -> _Worker:
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    # Not a daemon: those may not start the processes that read images.
    process = context.Process(target=work, args=(task, sender), daemon=False)
    process.start()
    # The child has the other end now; with ours closed, its death is an end of file.
    sender.close()
    return _Worker(process=process, progress=receiver, task=task, recorder=failure_recorder(task.run, task.command))


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


def _next_event(worker: _Worker) -> StudyEvent:
    task = worker.task
    try:
        return StudyEvent(run=task.run, **worker.progress.recv())
    except (EOFError, OSError):
        worker.process.join()
        message = f"the process ended without a word (exit code {worker.process.exitcode})"
        failure = Failure(kind="lost_process", message=message)
        with suppress(OSError):
            worker.recorder.finish(failure).write(run_folder(task.out, task.run))
        return StudyEvent(kind="failed", run=task.run, failure=failure)


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + LEAVING_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        # Where it has not ended by now, it will not by itself; where it has, nothing happens.
        worker.process.kill()
        worker.process.join()
    workers.clear()
