"""One run in a process of its own, so that a crash stays there."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from metaformer.analysis.cost import profile
from metaformer.core.configs import to_dict
from metaformer.core.memory import keep_freed_memory
from metaformer.core.records import ModelCost, Recorder, Training, failure_of
from metaformer.data.source import DataSource
from metaformer.data.sources import open_data
from metaformer.models.timm_model import build_model
from metaformer.study.folder import run_folder
from metaformer.train.config import Execution, Run
from metaformer.train.first_model import fit_to_data
from metaformer.train.loop import EpochResult
from metaformer.train.run import perform

# Imported once, before the first process is forked, instead of once a run.
PRELOAD = [__name__, "lightning_fabric", "sklearn.datasets", "timm.optim", "timm.scheduler"]
# A study keeps what its report needs: no log of steps, no second set of weights.
EXECUTION = Execution(keep_checkpoints=1, save_best=False, loggers=())
LEAVING_S = 2.0  # that a process which is asked to end may take


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run, and what its process needs to carry it out."""

    run: Run
    out: Path  # folder of the study
    command: str
    execution: Execution
    num_threads: int
    gpu: str | None = None  # the one that the process sees, as CUDA_VISIBLE_DEVICES names it; None: as it is


def work(task: Task, progress: Connection) -> None:
    """Performs a run; tells of every epoch and, if it fails, why."""
    # Ctrl-C reaches every process of a terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An exit, not a death: the processes that read this one's images end with it.
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if task.gpu is not None:
        # Before anything asks for a GPU, the only one that there is becomes this one.
        os.environ["CUDA_VISIBLE_DEVICES"] = task.gpu
    torch.set_num_threads(task.num_threads)
    keep_freed_memory()
    recorder = failure_recorder(task.run, task.command)
    folder = run_folder(task.out, task.run)
    try:
        for news in perform_run(task.run, folder, command=task.command, execution=task.execution):
            progress.send(news)
        progress.send({"kind": "finished"})
    except (BrokenPipeError, ConnectionResetError):
        # Nobody listens any more: the study was stopped. What is saved is saved.
        return
    except Exception as error:
        failure = failure_of(error)
        # The reason may be that nothing can be written.
        with suppress(OSError):
            recorder.finish(failure).write(folder)
        progress.send({"kind": "failed", "failure": failure})


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """Ends this process when the one that it works for ends, however that happens."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVING_S)
    os._exit(1)


def perform_run(run: Run, folder: Path, *, command: str, execution: Execution) -> Iterator[dict[str, Any]]:
    """Performs a run; yields what is known after each epoch."""
    data = open_data(run.data, run.preparation, num_workers=execution.num_workers)
    cost = measure_cost(run, data)
    for result in perform(run, data, folder, command=command, cost=cost, execution=execution):
        if isinstance(result, EpochResult):
            yield {"kind": "epoch", "epoch": result.epoch} | _last(result.history)


def measure_cost(run: Run, data: DataSource) -> ModelCost:
    """What the run's model costs, counted without building it."""
    with torch.device("meta"):
        model = build_model(fit_to_data(run.model, data))
    cost = profile(model, data.facts.image_size, in_chans=data.facts.in_chans)
    return ModelCost(params=cost.params, frozen=cost.frozen, macs=cost.macs)


def failure_recorder(run: Run, command: str) -> Recorder[Training]:
    """Times a run, to leave a record that says why there is no result."""
    return Recorder(Training, name=run.name, config=to_dict(run), command=command, seed=run.seed)


def _last(history: dict[str, list[float]]) -> dict[str, Any]:
    return {name: history[name][-1] for name in ("validation_accuracy", "images_per_second")}
