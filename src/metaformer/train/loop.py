"""The training loop: one flat function, readable from top to bottom."""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.core.difference import first_difference
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.seeding import key_seed
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.source import DataSource
from metaformer.train.checkpoint import Checkpoints, run_settings
from metaformer.train.config import Execution, TrainConfig
from metaformer.train.divergence import (
    DivergedError,
    find_non_finite,
    non_finite_gradient,
    require_finite_scores,
    require_finite_weights,
)
from metaformer.train.evaluation import evaluate
from metaformer.train.first_model import compiled, set_grad_checkpointing, set_trainable, set_training_mode
from metaformer.train.mixing import mix
from metaformer.train.optimizer import make_average, make_optimizer, make_scheduler
from metaformer.train.processes import (
    DropPathNoise,
    gather_numbers,
    local_batch_size,
    start_fabric,
    synchronise_batch_norm,
)
from metaformer.train.stopping import InterruptedRunError, peak_memory_mib

History = dict[str, list[float]]
# Of the loss in float16: a gradient that is not finite at this scale is so at any.
SMALLEST_SCALE = 2.0**-20


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What is known after a step."""

    epoch: int  # how many are done
    step: int  # how many of the next one are done
    steps_per_epoch: int
    loss: float  # of this step, over all processes' images
    learning_rate: float
    images_per_second: float  # in this epoch so far
    waiting_share: float  # of the time of this epoch that went by until the images were there
    memory_mib: float  # at most, so far


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What is known after an epoch."""

    epoch: int  # how many are done
    history: History  # one list a column, one value an epoch so far
    steps_per_epoch: int = 1
    resumed: bool = False  # read from the folder, not done now


# Axes of the images -> the memory format that keeps the channels of a token together; signals have none in PyTorch.
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def train(
    model: nn.Module,
    data: DataSource,
    config: TrainConfig,
    *,
    seed: int,
    folder: Path | None = None,
    settings: dict[str, Any] | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    fabric: Any = None,
    stop: Callable[[], int] = lambda: 0,
) -> Generator[StepResult | EpochResult, None, int]:
    """Trains a model, in place, one step for each result that the caller takes.

    With a folder the state is saved there, and a run that finds a state goes on from it, bit for bit as if it had never
    stopped: all randomness is keyed by seed, epoch, step and sample, so that a state needs to hold none.

    Args:
        model: Ends with the last weights, the averaged ones or the best ones, as the recipe says.
        data: Opened for this recipe.
        config: The recipe.
        seed: Of everything random but the first weights, which the model has already.
        folder: For checkpoints; None: nothing is written.
        settings: What else a state in the folder must agree with, as plain values; model, data and recipe do so anyway.
        execution: What does not change the result.
        fabric: From `start_fabric`; None: started here.
        stop: Asked after each step and each epoch: the number of a signal to stop for, or 0.

    Returns:
        The epoch whose weights the model has: the last, or the best where the recipe asks for it and it is not lost.

    Raises:
        ConfigError: timm does not know the optimizer, or the folder holds a run with other settings.
        DataError: The state in the folder cannot be read, or there were fewer images than the data promised.
        DivergedError: The loss, the gradient or a weight became infinite or not a number.
        InterruptedRunError: `stop` said so; the state is saved.
        DiskError: A checkpoint cannot be written.

    Source: arXiv:2111.11418, Sec. 4.1: AdamW, linear warm-up, cosine, label smoothing, mixup, cutmix.
    """
    fabric = fabric or start_fabric(config, execution)
    rank, world_size = fabric.global_rank, fabric.world_size
    local_batch_size(config, world_size)  # refuses what cannot be divided
    plan = BatchPlan(seed=seed, epoch=0, batch_size=config.batch_size, rank=rank, world_size=world_size)
    steps_per_epoch = plan.num_steps(data.facts.num_train)
    num_classes = len(data.facts.class_names)
    memory_format = CHANNELS_LAST.get(len(data.facts.image_size) * config.channels_last, torch.contiguous_format)

    model.to(fabric.device).to(memory_format=memory_format)
    set_trainable(model, config)
    set_grad_checkpointing(model, execution)
    if world_size > 1:
        synchronise_batch_norm(model)
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config, steps_per_epoch)
    average = make_average(model, config)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    checkpoints = Checkpoints(folder, keep=execution.keep_checkpoints) if folder else None
    all_settings = run_settings(model, data, config, seed=seed, more=settings or {})
    history: History = {}
    first_epoch = first_step = 0
    loss_sum = seconds = epoch_seconds = 0.0  # seconds: in all; and in this epoch's steps
    best = {"accuracy": -1.0, "epoch": 0}
    best_weights: dict[str, torch.Tensor] | None = None  # in memory where there is no folder
    state = fabric.broadcast(checkpoints.load() if checkpoints and rank == 0 else None)
    if state:
        if state["settings"] != all_settings:
            difference = first_difference(state["settings"], all_settings)
            raise ConfigError(
                f"{folder} holds a run with other settings ({difference}). Choose another folder, or delete it."
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        fabric.strategy.precision.load_state_dict(state["precision"])
        if average is not None:
            average.module.load_state_dict(state["average"])
        first_epoch, first_step, history, best = state["epoch"], state["step"], state["history"], state["best"]
        loss_sum, seconds, epoch_seconds = state["loss_sum"], state["seconds"], state["epoch_seconds"]
        if first_epoch:
            yield EpochResult(epoch=first_epoch, history=history, steps_per_epoch=steps_per_epoch, resumed=True)
    prepared, optimizer = fabric.setup(compiled(model, execution), optimizer)
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    noise = DropPathNoise(model, config.batch_size)
    images_per_step = min(config.batch_size, data.facts.num_train)
    saved_at = clock = time.perf_counter()

    def snapshot(epoch: int, step: int) -> dict[str, Any]:
        return {
            "settings": all_settings,
            "epoch": epoch,
            "step": step,
            "history": history,
            "best": best,
            "loss_sum": loss_sum,
            "seconds": seconds,
            "epoch_seconds": epoch_seconds,
            "model": model.state_dict(),
            "average": average.module.state_dict() if average is not None else None,
            "optimizer": optimizer.state_dict(),
            "precision": fabric.strategy.precision.state_dict(),
        }

    for epoch in range(first_epoch, config.epochs):
        if _stops_early(config, epoch, best):
            break
        plan = BatchPlan(
            seed=seed,
            epoch=epoch,
            batch_size=config.batch_size,
            first_step=first_step,
            rank=rank,
            world_size=world_size,
        )
        set_training_mode(model, config)
        epoch_started, images_done, waited = time.perf_counter(), 0, 0.0
        clock = asked_at = epoch_started
        step = first_step - 1
        for step, (images, labels) in enumerate(data.train_batches(plan), start=first_step):
            waited += time.perf_counter() - asked_at
            scheduler.step_update(epoch * steps_per_epoch + step)
            images, labels = fabric.to_device((images, labels))
            images = images.to(memory_format=memory_format)
            targets = labels
            if config.mixing.is_on:
                images, targets = mix(images, labels, config.mixing, num_classes=num_classes, key=(seed, epoch, step))
            # Dropout draws from here; the key makes every step start alike after a resume.
            torch.manual_seed(key_seed("train", seed, epoch, step, rank))
            micro_size = execution.micro_batch_size or len(images)
            loss_value, broken = 0.0, slice(0)
            for start in range(0, len(images), micro_size):
                micro = slice(start, min(start + micro_size, len(images)))
                share = (micro.stop - micro.start) / len(images)
                offset = rank * len(images)
                noise.set(slice(offset + micro.start, offset + micro.stop), seed=seed, epoch=epoch, step=step)
                # Gradients of the processes are added up once, with those of the last part.
                with fabric.no_backward_sync(prepared, enabled=world_size > 1 and micro.stop < len(images)):
                    loss = criterion(prepared(images[micro]), targets[micro])
                    fabric.backward(loss * share)
                # The first part that leaves no finite sum stays here.
                broken = micro if math.isfinite(loss_value) else broken
                loss_value += loss.item() * share
            noise.clear()
            losses, signal_number = _agree(fabric, loss_value, stop())
            loss_value = sum(losses) / world_size
            if not math.isfinite(loss_value):
                reason = find_non_finite(model, images[broken], losses[rank], fabric)
                what = f"the loss became {loss_value}"
                raise DivergedError(what, reason, epoch=epoch + 1, step=step + 1, value=loss_value)
            if config.clip_grad_norm is not None:
                norm = fabric.clip_gradients(
                    prepared, optimizer, max_norm=config.clip_grad_norm, error_if_nonfinite=False
                )
                # In float16 that is by design: the scaler leaves the step out and lowers its scale.
                if scaler is None and not math.isfinite(norm):
                    what, reason = f"the norm of the gradient became {float(norm)}", non_finite_gradient(model)
                    raise DivergedError(what, reason, epoch=epoch + 1, step=step + 1, value=float(norm))
            optimizer.step()
            if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
                what, value = "the gradient is not finite", float("nan")
                reason = "neither with the loss in float16 at any scale. Try --train.precision bf16-mixed"
                raise DivergedError(what, reason, epoch=epoch + 1, step=step + 1, value=value)
            optimizer.zero_grad()
            if average is not None:
                average.update(model, epoch * steps_per_epoch + step + 1)
            loss_sum += loss_value
            images_done += images_per_step
            now = time.perf_counter()
            seconds += now - clock
            epoch_seconds += now - clock
            clock = now
            is_due = now - saved_at > 60 * execution.checkpoint_minutes or (
                execution.checkpoint_steps and (step + 1) % execution.checkpoint_steps == 0
            )
            is_last = step + 1 == steps_per_epoch
            # First told, then saved: a log then has all that a resume does not do again.
            yield StepResult(
                epoch=epoch,
                step=step + 1,
                steps_per_epoch=steps_per_epoch,
                loss=loss_value,
                learning_rate=optimizer.param_groups[-1]["lr"],
                images_per_second=images_done / (now - epoch_started),
                waiting_share=waited / (now - epoch_started),
                memory_mib=peak_memory_mib(fabric.device),
            )
            if checkpoints and rank == 0 and ((is_due and not is_last) or signal_number):
                require_finite_weights(model, epoch=epoch + 1, step=step + 1)
                checkpoints.save(snapshot(epoch, step + 1))
                saved_at = time.perf_counter()
            if signal_number:
                where = f"epoch {epoch + 1}, step {step + 1}"
                raise InterruptedRunError(_stopped(where, folder), signal_number=signal_number)
            asked_at = time.perf_counter()

        if step + 1 != steps_per_epoch:
            raise DataError(
                f"{data.facts.name} promised {data.facts.num_train} training images and ended in step {step + 2} of "
                f"{steps_per_epoch} of epoch {epoch + 1}."
            )
        # Before anything is written or judged: the last step may have broken them.
        require_finite_weights(model, epoch=epoch + 1, step=steps_per_epoch)
        judged = model if average is None else average.module
        shares = data.evaluation_batches("validation", rank=rank, world_size=world_size)
        validation = evaluate(judged, shares, fabric=fabric)
        require_finite_scores(validation, "validation", epoch=epoch + 1, step=steps_per_epoch)
        now = time.perf_counter()
        seconds += now - clock
        clock = now
        row = {
            "epoch": epoch + 1.0,
            "learning_rate": optimizer.param_groups[-1]["lr"],
            "train_loss": loss_sum / steps_per_epoch,
            "validation_loss": validation.loss,
            "validation_accuracy": validation.accuracy,
            "images_per_second": steps_per_epoch * images_per_step / epoch_seconds,
            "seconds": seconds,
        }
        history = {name: [*history.get(name, []), value] for name, value in row.items()}
        if validation.accuracy > best["accuracy"]:
            best = {"accuracy": validation.accuracy, "epoch": epoch + 1}
            if checkpoints and rank == 0 and (execution.save_best or config.final_weights == "best"):
                checkpoints.save_best({"model": judged.state_dict(), **best})
            elif not checkpoints and config.final_weights == "best":
                best_weights = {name: value.clone() for name, value in judged.state_dict().items()}
        first_step, loss_sum, epoch_seconds = 0, 0.0, 0.0
        if checkpoints and rank == 0:
            checkpoints.save(snapshot(epoch + 1, 0))
            saved_at = time.perf_counter()
        yield EpochResult(epoch=epoch + 1, history=history, steps_per_epoch=steps_per_epoch)
        _, signal_number = _agree(fabric, 0.0, stop())
        if signal_number and epoch + 1 < config.epochs:
            raise InterruptedRunError(_stopped(f"epoch {epoch + 1}", folder), signal_number=signal_number)

    if average is not None:
        model.load_state_dict(average.module.state_dict())
    kept_epoch = len(history["epoch"])
    if config.final_weights == "best" and best["epoch"] != kept_epoch:
        if checkpoints:
            found = fabric.broadcast(checkpoints.load_best(int(best["epoch"])) if rank == 0 else None)
            best_weights = found["model"] if found else None
        if best_weights:
            model.load_state_dict(best_weights)
            kept_epoch = int(best["epoch"])
    return kept_epoch


def _agree(fabric: Any, loss: float, signal_number: int) -> tuple[list[float], int]:
    """The loss of each process, and the signal that any of them got."""
    if fabric.world_size == 1:
        return [loss], signal_number
    losses, signals = zip(*gather_numbers([loss, float(signal_number)], fabric), strict=True)
    return list(losses), int(max(signals))


def _stopped(where: str, folder: Path | None) -> str:
    return f"stopped after {where}" + ("; saved: the same command goes on there" if folder else "")


def _stops_early(config: TrainConfig, epochs_done: int, best: dict[str, Any]) -> bool:
    patience = config.early_stopping_epochs
    return patience is not None and epochs_done - int(best["epoch"]) >= patience and epochs_done > 0
