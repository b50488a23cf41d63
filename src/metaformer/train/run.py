"""One run from first weights to run record."""

import contextlib
import json
import logging
import os
import statistics
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.core.command_line import given_command
from metaformer.core.configs import to_dict
from metaformer.core.difference import first_difference
from metaformer.core.errors import ConfigError, DataError, one_line
from metaformer.core.measurement import numbers
from metaformer.core.memory import keep_freed_memory
from metaformer.core.records import RUN_FILE, ModelCost, Record, Recorder, Training, UnreadableImage, read_record
from metaformer.core.records import History as Columns
from metaformer.data.source import DataSource
from metaformer.data.sources import open_data
from metaformer.fast.for_training import for_training
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import CLASSES_KEY, WEIGHTS_FILE, save_weights, write_tensors
from metaformer.train.checkpoint import Checkpoints, data_settings, digest_of
from metaformer.train.config import AUTOCAST, Execution, Run
from metaformer.train.divergence import require_finite_scores
from metaformer.train.evaluation import Evaluation, evaluate
from metaformer.train.first_model import first_model
from metaformer.train.loop import EpochResult, History, StepResult
from metaformer.train.loop import train as training_loop
from metaformer.train.processes import local_batch_size, naming_lost_processes, start_fabric
from metaformer.train.run_folder import hold_folder
from metaformer.train.run_log import RunLog
from metaformer.train.stopping import (
    KEPT,
    OutOfMemoryError,
    advice,
    is_out_of_memory,
    naming_disk_errors,
    peak_memory_mib,
)

# Of the epoch with the best validation accuracy, where that is not the last.
BEST_WEIGHTS_FILE = "best.safetensors"
NAMED = 20  # images that could not be read, in a record
log = logging.getLogger("metaformer.train")
Result = StepResult | EpochResult


def train(
    run: Run,
    *,
    out: Path,
    data: DataSource | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    threads: int | None = None,
    deterministic: bool = False,
    command: str | None = None,
    watch: Callable[[Iterator[Result]], None] | None = None,
    stop: Callable[[], int] = lambda: 0,
) -> Record[Training] | None:
    """Trains one model, as `metaformer train` does; the same call continues a run that was stopped.

    Args:
        run: What is trained, on what, how; a recipe returns one.
        out: Folder of the run: its log, checkpoints, weights and record. A finished run of the same settings that is
            there already is not repeated.
        data: The opened data source, where the caller has it; None: that of the run's name is opened.
        execution: What changes speed, memory and safety, and not the result.
        threads: Of PyTorch on a CPU; None: as it is.
        deterministic: Refuse operations whose result may vary from run to run (on GPUs).
        command: What makes the result again, for the record; None: the words that this program was started with.
        watch: Takes all results, to show them; None: nothing is shown.
        stop: Asked after each step: the number of a signal to stop for, or 0.

    Returns:
        The record in the folder; None in all but the first of several processes, which leave nothing.

    Raises:
        ConfigError: A setting cannot work, or the folder holds, or is written by, another run.
        DataError: The data cannot be read, or the folder cannot be written.
        StoppedError: The run diverged, was interrupted, or lacks memory, disk or another process.
    """
    if not run.data:
        raise ConfigError("--data is missing: say what to train on, as --data FOLDER or --data cifar10:DIR.")
    keep_freed_memory()
    if deterministic:
        torch.use_deterministic_algorithms(True)
    if threads:
        torch.set_num_threads(threads)
    source = data or open_data(run.data, run.preparation, num_workers=execution.num_workers)
    words = given_command() if command is None else command
    results = perform(run, source, out, command=words, execution=execution, stop=stop)
    if watch:
        watch(results)
    for _ in results:
        pass
    return read_record(out, Training) if os.environ.get("RANK", "0") == "0" else None


def perform(
    run: Run,
    data: DataSource,
    folder: Path,
    *,
    command: str,
    cost: ModelCost | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    stop: Callable[[], int] = lambda: 0,
) -> Iterator[Result]:
    """Trains, tests once, and leaves weights and a run record in the folder; continues what it finds there.

    Args:
        run: What to do; where the folder holds it, finished, nothing is done.
        data: The opened data source of that name.
        folder: For checkpoints, log, weights and record; held alone for as long as the run lasts.
        command: The command that does it again, for the record.
        cost: What the model costs, for the record, where the caller has counted it.
        execution: What does not change the result.
        stop: As in the loop.

    Raises:
        ConfigError: The settings cannot work together, the folder holds a run with others, or another run writes there.
        DataError: The folder cannot be written, or its checkpoints cannot be read.
        StoppedError: The run diverged, was interrupted, or lacks memory, disk or another process.
    """
    recorder = Recorder(Training, name=run.name, config=to_dict(run), command=command, seed=run.seed)
    fabric = start_fabric(run.train, execution)
    is_first = fabric.global_rank == 0
    with naming_lost_processes(fabric), hold_folder(folder) if is_first else contextlib.nullcontext():
        # One process looks, for all.
        if fabric.broadcast(finished_run(run, data, folder) is not None if is_first else None):
            return
        model = first_model(run, data)
        # The settings that a state must share: what the loop cannot know of its model and data.
        asked = {
            "model": to_dict(run.model),
            "preparation": to_dict(run.preparation),
            "weights": digest_of(model.state_dict()) if run.weights else None,
        }
        if execution.fast:
            products = AUTOCAST.get(run.train.precision)
            model = for_training(model, keep_hidden=execution.keep_hidden, products=products)
        names = execution.loggers if is_first else ()
        run_log = RunLog(names, folder, log_steps=execution.log_steps, settings=to_dict(run))
        try:
            with _naming_memory(run, execution, fabric):
                results = training_loop(
                    model,
                    data,
                    run.train,
                    seed=run.seed,
                    folder=folder,
                    settings={"asked": asked},
                    execution=execution,
                    fabric=fabric,
                    stop=stop,
                )
                history, kept_epoch = yield from _logged(results, run_log)
                # Before the test, which may fail: what was trained is not lost then.
                if is_first:
                    with naming_disk_errors(f"the weights into {folder}", KEPT):
                        _save(model, folder / WEIGHTS_FILE, data)
                test = _test(model, data, fabric, epoch=kept_epoch)
        finally:
            run_log.close()
        if not is_first:
            return
        best_epoch = 1 + max(range(len(history["epoch"])), key=lambda i: history["validation_accuracy"][i])
        (train_loss,) = numbers(history["train_loss"][-1:])
        recorder.result = Training(
            test_accuracy_percent=test.accuracy if test else None,
            test_loss=test.loss if test else None,
            validation_accuracy_percent=history["validation_accuracy"][kept_epoch - 1],
            train_loss=train_loss,
            images_per_second=statistics.median(history["images_per_second"]),
            train_time_s=history["seconds"][-1],
            peak_memory_mib=peak_memory_mib(fabric.device),
            best_epoch=best_epoch,
            kept_epoch=kept_epoch,
            cost=cost,
            history=Columns.of(history),
            class_names=tuple(data.facts.class_names),
            per_class_accuracy_percent=numbers(test.per_class_accuracy) if test else (),
            num_unreadable=len(data.unreadable),
            unreadable=tuple(UnreadableImage(name=name, reason=reason) for name, reason in data.unreadable[:NAMED]),
            data=data_settings(data),
            execution=to_dict(execution),
            num_processes=fabric.world_size,
        )
        best_elsewhere = best_epoch != kept_epoch and execution.save_best and run.train.final_weights == "last"
        _leave(model, data, recorder.finish(), folder, best_epoch=best_epoch if best_elsewhere else None)


def finished_run(run: Run, data: DataSource, folder: Path) -> Record[Training] | None:
    """The record of this run, where the folder holds it, finished; the same data may lie elsewhere by now.

    Raises:
        ConfigError: It is of a run with other settings; says which, and how to train on from it.
        DataError: It cannot be read.
    """
    if not (folder / RUN_FILE).exists():
        return None
    record = read_record(folder, Training)
    # One that failed is tried again.
    if record.result is None:
        return None
    here, there = to_dict(run), dict(record.config)
    content = data_settings(data)
    if record.result.data == content:
        there["data"] = here["data"]
    if there == here:
        return record
    difference = first_difference(there, here)
    longer = {**there, "train": {**there["train"], "epochs": run.train.epochs}}
    if longer == here:
        raise ConfigError(
            f"{folder} holds this run, finished ({difference}): its learning rate has come to its end. To train on, "
            f"start another run from its weights: --weights {folder} --out {folder}-more."
        )
    raise ConfigError(
        f"{folder} holds a finished run with other settings ({difference}). Choose another --out, or delete it."
    )


def _logged(results: Generator[Result, None, int], run_log: RunLog) -> Generator[Result, None, tuple[History, int]]:
    """The results as they come, each in the log before it is told; at the end all epochs, and which one was kept."""
    history: History = {}
    with contextlib.closing(results):
        while True:
            try:
                result = next(results)
            except StopIteration as end:
                return history, end.value
            if isinstance(result, EpochResult):
                history = result.history
            run_log.write(result)
            yield result


@contextlib.contextmanager
def _naming_memory(run: Run, execution: Execution, fabric: Any) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        local = local_batch_size(run.train, fabric.world_size)
        raise OutOfMemoryError(advice(run.train, execution, local)) from None


def _leave(
    model: nn.Module, data: DataSource, record: Record[Training], folder: Path, *, best_epoch: int | None
) -> None:
    """Writes what a finished run leaves besides its weights; the record last: it says that the run is finished."""
    checkpoints = Checkpoints(folder)
    with naming_disk_errors(f"the result into {folder}", KEPT):
        if best_epoch is not None and (best := checkpoints.load_best(best_epoch)):
            model.load_state_dict(best["model"])
            _save(model, folder / BEST_WEIGHTS_FILE, data)
        record.write(folder)
    # The record is there: what a resume would need is not needed any more.
    checkpoints.clear()


def _save(model: nn.Module, path: Path, data: DataSource) -> None:
    names = data.facts.class_names
    if isinstance(model, MetaFormer):
        save_weights(model, path, class_names=names)
    else:
        write_tensors(model.state_dict(), path, {CLASSES_KEY: json.dumps(names)})


def _test(model: nn.Module, data: DataSource, fabric: Any, *, epoch: int) -> Evaluation | None:
    """The test split, read once; None where there is none, or, with a warning, where it cannot be evaluated."""
    if not data.facts.num_test:
        return None
    rank, world_size = fabric.global_rank, fabric.world_size
    try:
        test = evaluate(model, data.evaluation_batches("test", rank=rank, world_size=world_size), fabric=fabric)
    except DataError as error:
        if world_size > 1:
            # The other processes wait for this one's share.
            raise
        log.warning("the test split cannot be evaluated: %s The weights are there, without a test.", one_line(error))
        return None
    require_finite_scores(test, "test", epoch=epoch, step=0)
    return test
