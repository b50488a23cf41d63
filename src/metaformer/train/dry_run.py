"""A look ahead: data, one step of each phase, memory, time and disk, in seconds instead of days."""

import shutil
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from metaformer.data.batch_plan import BatchPlan
from metaformer.data.source import DataSource
from metaformer.fast.for_training import for_training
from metaformer.train.config import AUTOCAST, Execution, Run
from metaformer.train.divergence import require_finite_scores, require_finite_weights
from metaformer.train.evaluation import evaluate
from metaformer.train.first_model import first_model
from metaformer.train.loop import StepResult, train
from metaformer.train.processes import local_batch_size, start_fabric
from metaformer.train.stopping import OutOfMemoryError, advice, is_out_of_memory, peak_memory_mib

TIMED_STEPS = 3  # after a first one, which is slower
EVALUATED_BATCHES = 2
WORDS_PER_WEIGHT = 3  # a weight and two moments, in a checkpoint


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would need."""

    steps_per_epoch: int
    params: int
    trained_params: int
    batch_shape: tuple[int, ...]  # of one process
    step_seconds: float
    images_per_second: float  # of all processes
    waiting_share: float  # of a step's time, for its images
    validation_seconds: float  # for the whole split
    hours: float  # for the whole run
    memory_mib: float  # at most, so far
    checkpoint_mib: float
    free_disk_mib: float


def dry_run(run: Run, data: DataSource, folder: Path, *, execution: Execution) -> DryRun:
    """Takes a few steps and a part of an evaluation, and writes nothing.

    Raises:
        ConfigError: The settings cannot work together.
        DataError: The data cannot be read.
        OutOfMemoryError: There is too little memory; says what to change.
        DivergedError: The loss is not finite at once.
    """
    model = first_model(run, data)
    if execution.fast:
        products = AUTOCAST.get(run.train.precision)
        model = for_training(model, keep_hidden=execution.keep_hidden, products=products)
    fabric = start_fabric(run.train, execution)
    local = local_batch_size(run.train, fabric.world_size)
    share = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    plan = BatchPlan(seed=run.seed, epoch=0, batch_size=run.train.batch_size, **share)
    images, _ = next(data.train_batches(plan))
    results = train(model, data, run.train, seed=run.seed, execution=execution, fabric=fabric)
    try:
        seconds, waiting = _steps(results)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(advice(run.train, execution, local)) from None
    finally:
        results.close()
    require_finite_weights(model, epoch=1, step=1 + TIMED_STEPS)
    validation_seconds = _look_at(model, data, "validation") / fabric.world_size
    if data.facts.num_test:
        _look_at(model, data, "test")
    steps_per_epoch = plan.num_steps(data.facts.num_train)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    params = sum(value.numel() for value in model.parameters())
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return DryRun(
        steps_per_epoch=steps_per_epoch,
        params=params,
        trained_params=trained,
        batch_shape=tuple(images.shape),
        step_seconds=seconds,
        images_per_second=len(images) * fabric.world_size / seconds,
        waiting_share=waiting,
        validation_seconds=validation_seconds,
        hours=run.train.epochs * (steps_per_epoch * seconds + validation_seconds) / 3600,
        memory_mib=peak_memory_mib(next(model.parameters()).device),
        checkpoint_mib=(4 * params + (WORDS_PER_WEIGHT - 1) * 4 * trained) / 2**20,
        free_disk_mib=shutil.disk_usage(existing).free / 2**20,
    )


def _steps(results: object) -> tuple[float, float]:
    """Seconds a step, and the share of them spent waiting for images."""
    first = _next_step(results)
    started = time.perf_counter()
    last, num = first, 0
    while last is not None and num < TIMED_STEPS and first is not None:
        following = _next_step(results)
        if following is None:
            break
        last, num = following, num + 1
    seconds = (time.perf_counter() - started) / max(1, num)
    assert last is not None
    return (seconds if num else 1 / last.images_per_second), last.waiting_share


def _next_step(results: object) -> StepResult | None:
    return next((result for result in results if isinstance(result, StepResult)), None)  # type: ignore[attr-defined]


@torch.no_grad()
def _look_at(model: torch.nn.Module, data: DataSource, split: str) -> float:
    """Judges a part of a split; the seconds that the whole of it takes.

    Raises:
        DataError: There is no labelled image.
        DivergedError: The model's answer is not finite.
    """
    num_images = data.facts.num_validation if split == "validation" else data.facts.num_test
    started = time.perf_counter()
    found = evaluate(model, islice(data.evaluation_batches(split), EVALUATED_BATCHES))
    require_finite_scores(found, split, epoch=1, step=1)
    return (time.perf_counter() - started) * num_images / found.num_images
