"""One run from first weights to run record."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from metaformer.core.configs import to_dict
from metaformer.core.machine import provenance
from metaformer.core.run_record import Metric, RunRecord
from metaformer.data.source import DataSource
from metaformer.fast.for_training import for_training
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import CLASSES_KEY, WEIGHTS_FILE, save_weights, write_tensors
from metaformer.train.checkpoint import Checkpoints
from metaformer.train.config import AUTOCAST, Execution, Run
from metaformer.train.evaluation import Evaluation, evaluate
from metaformer.train.first_model import first_model
from metaformer.train.loop import EpochResult, History, StepResult, train
from metaformer.train.processes import local_batch_size, naming_lost_processes, start_fabric
from metaformer.train.run_log import RunLog
from metaformer.train.stopping import (
    KEPT,
    OutOfMemoryError,
    advice,
    is_out_of_memory,
    naming_disk_errors,
    peak_memory_mib,
    require_writable,
)

# Of the epoch with the best validation accuracy, where that is not the last.
BEST_WEIGHTS_FILE = "best.safetensors"
NAMED = 20  # images that could not be read, in a record


def perform(
    run: Run,
    data: DataSource,
    folder: Path,
    *,
    command: str,
    costs: dict[str, Metric] | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    stop: Callable[[], int] = lambda: 0,
) -> Iterator[StepResult | EpochResult]:
    """Trains, tests once, and leaves weights and a run record in the folder; continues what it finds there.

    Args:
        run: What to do.
        data: The opened data source of that name.
        folder: For checkpoints, log, weights and record.
        command: The command that does it again, for the record.
        costs: Metrics of the model that the record shall carry, measured elsewhere.
        execution: What does not change the result.
        stop: As in `train`.

    Raises:
        ConfigError: The settings cannot work together, or the folder holds a run with others.
        DataError: The folder cannot be written, or its checkpoints cannot be read.
        StoppedError: The run diverged, was interrupted, or lacks memory, disk or another process.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    fabric = start_fabric(run.train, execution)
    is_first = fabric.global_rank == 0
    model = first_model(run, data)
    if execution.fast:
        products = AUTOCAST.get(run.train.precision)
        model = for_training(model, keep_hidden=execution.keep_hidden, products=products)
    if is_first:
        require_writable(folder)
    # What the loop cannot know of its model and data.
    asked = {"model": to_dict(run.model), "preparation": to_dict(run.preparation), "weights": run.weights}
    log = RunLog(execution.loggers if is_first else (), folder, log_steps=execution.log_steps, settings=to_dict(run))
    history: History = {}
    try:
        with naming_lost_processes(fabric):
            for result in train(
                model,
                data,
                run.train,
                seed=run.seed,
                folder=folder,
                settings={"asked": asked},
                execution=execution,
                fabric=fabric,
                stop=stop,
            ):
                if isinstance(result, EpochResult):
                    history = result.history
                log.write(result)
                yield result
            test = _test(model, data, fabric)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        local = local_batch_size(run.train, fabric.world_size)
        raise OutOfMemoryError(advice(run.train, execution, local)) from None
    finally:
        log.close()
    if not is_first:
        return
    best_epoch = 1 + max(range(len(history["epoch"])), key=lambda i: history["validation_accuracy"][i])
    kept_epoch = best_epoch if run.train.final_weights == "best" else len(history["epoch"])
    how = {"best_epoch": best_epoch, "execution": to_dict(execution), "num_processes": fabric.world_size}
    record = RunRecord(
        kind="train",
        name=run.name,
        command=command,
        config=to_dict(run),
        seed=run.seed,
        metrics=_metrics(history, kept_epoch, test, peak_memory_mib(fabric.device)) | (costs or {}),
        history=history,
        labels=_labels(data, test) | how,
        **provenance(started),
        wall_time_s=time.perf_counter() - clock,
    )
    _leave(model, data, record, folder, best_elsewhere=best_epoch != kept_epoch)


def _leave(model: nn.Module, data: DataSource, record: RunRecord, folder: Path, *, best_elsewhere: bool) -> None:
    """Writes what a finished run leaves; the record last, because it says that the run is finished."""
    with naming_disk_errors(f"the result into {folder}", KEPT):
        _save(model, folder / WEIGHTS_FILE, data)
        if best_elsewhere and (best := Checkpoints(folder).load_best()):
            model.load_state_dict(best["model"])
            _save(model, folder / BEST_WEIGHTS_FILE, data)
        record.write(folder)
    # The record is there: what a resume would need is not needed any more.
    Checkpoints(folder).clear()


def _labels(data: DataSource, test: Evaluation | None) -> dict[str, Any]:
    return {
        "class_names": list(data.facts.class_names),
        "per_class_accuracy": list(test.per_class_accuracy) if test else None,
        "num_unreadable": len(data.unreadable),
        "unreadable": [list(pair) for pair in data.unreadable[:NAMED]],
    }


def _save(model: nn.Module, path: Path, data: DataSource) -> None:
    names = data.facts.class_names
    if isinstance(model, MetaFormer):
        save_weights(model, path, class_names=names)
    else:
        write_tensors(model.state_dict(), path, {CLASSES_KEY: json.dumps(names)})


def _test(model: nn.Module, data: DataSource, fabric: Any) -> Evaluation | None:
    if not data.facts.num_test:
        return None
    rank, world_size = fabric.global_rank, fabric.world_size
    return evaluate(model, data.evaluation_batches("test", rank=rank, world_size=world_size), fabric=fabric)


def _metrics(history: History, kept_epoch: int, test: Evaluation | None, memory_mib: float) -> dict[str, Metric]:
    metrics = {
        # Of the weights that were kept, as the test accuracy is.
        "validation_accuracy": Metric(value=history["validation_accuracy"][kept_epoch - 1], unit="%"),
        "train_loss": Metric(value=history["train_loss"][-1], unit="nats"),
        "images_per_second": Metric(value=statistics.median(history["images_per_second"]), unit="images/s"),
        "train_time": Metric(value=history["seconds"][-1], unit="s"),
        "peak_memory": Metric(value=memory_mib, unit="MiB"),
    }
    if test is None:
        return metrics
    tested = {
        "test_accuracy": Metric(value=test.accuracy, unit="%"),
        "test_loss": Metric(value=test.loss, unit="nats"),
    }
    return tested | metrics
