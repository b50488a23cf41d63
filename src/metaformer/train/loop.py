"""The training loop: one flat function, readable from top to bottom."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError, MissingExtraError, did_you_mean
from metaformer.core.seeding import key_seed
from metaformer.data.source import DataSource
from metaformer.train.checkpoint import load_checkpoint, save_checkpoint
from metaformer.train.config import TrainConfig
from metaformer.train.evaluation import evaluate

History = dict[str, list[float]]


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What is known after an epoch."""

    epoch: int  # how many are done
    history: History  # one list a column, one value an epoch so far


def train(
    model: nn.Module, data: DataSource, config: TrainConfig, *, seed: int, folder: Path | None = None
) -> Iterator[EpochResult]:
    """Trains a model, in place, one epoch for each result that the caller takes.

    With a folder the state is saved after every epoch, and a run that finds a state there goes on from it. All
    randomness is keyed by seed and epoch, so that an interrupted run ends where an uninterrupted one does.

    Raises:
        ConfigError: timm does not know the optimizer, or the folder holds a run with other settings.
        DataError: The state in the folder cannot be read.
        DivergedError: The loss became infinite or not a number.

    Source: arXiv:2111.11418, Sec. 4.1: AdamW, linear warm-up, cosine, label smoothing.
    """
    fabric = _fabric(config)
    images_per_epoch = data.facts.num_train
    steps_per_epoch = max(1, images_per_epoch // config.batch_size)
    model.to(memory_format=torch.channels_last if config.channels_last else torch.contiguous_format)
    optimizer = _optimizer(model, config)
    scheduler = _scheduler(optimizer, config, steps_per_epoch)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    state = load_checkpoint(folder) if folder else None
    settings = _settings(model, data, config, seed)
    history: History = {}
    first_epoch = 0
    if state:
        if state["config"] != settings:
            raise ConfigError(f"{folder} holds a run with other settings. Choose another folder, or delete it.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch, history = state["epoch"], state["history"]
        if first_epoch:
            yield EpochResult(epoch=first_epoch, history=history)
    validation_images, validation_labels = data.validation()
    prepared, optimizer = fabric.setup(model, optimizer)

    for epoch in range(first_epoch, config.epochs):
        # Drop path and dropout draw from the global generator; the key makes each epoch start alike after a resume.
        torch.manual_seed(key_seed("train", seed, epoch))
        images, labels = data.train_epoch(seed=seed, epoch=epoch)
        started, loss_sum = time.perf_counter(), 0.0
        prepared.train()
        for step in range(steps_per_epoch):
            batch = slice(step * config.batch_size, (step + 1) * config.batch_size)
            scheduler.step_update(epoch * steps_per_epoch + step)
            batch_images, batch_labels = fabric.to_device((images[batch], labels[batch]))
            loss = criterion(prepared(batch_images), batch_labels)
            fabric.backward(loss)
            if config.clip_grad_norm is not None:
                fabric.clip_gradients(prepared, optimizer, max_norm=config.clip_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            loss_value = loss.item()
            if not math.isfinite(loss_value):
                raise DivergedError(f"the loss became {loss_value} in epoch {epoch + 1}, step {step + 1}")
            loss_sum += loss_value
        seconds = time.perf_counter() - started

        validation = evaluate(prepared, validation_images, validation_labels)
        row = {
            "epoch": epoch + 1.0,
            "learning_rate": optimizer.param_groups[0]["lr"],
            "train_loss": loss_sum / steps_per_epoch,
            "validation_loss": validation.loss,
            "validation_accuracy": validation.accuracy,
            "images_per_second": min(images_per_epoch, steps_per_epoch * config.batch_size) / seconds,
        }
        history = {name: [*history.get(name, []), value] for name, value in row.items()}
        if folder:
            save_checkpoint(
                folder,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "epoch": epoch + 1,
                    "history": history,
                    "config": settings,
                },
            )
        yield EpochResult(epoch=epoch + 1, history=history)


def _fabric(config: TrainConfig) -> Any:
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise MissingExtraError(need="training", extra="train") from None
    # Fabric announces what it found; a run record says it better.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(devices=1, precision=config.precision)


def check_optimizer(config: TrainConfig) -> None:
    """Refuses an optimizer that timm does not know.

    Raises:
        ConfigError: It does not; names the nearest.
    """
    from timm.optim import list_optimizers

    known = list_optimizers()
    if config.optimizer not in known:
        raise ConfigError(
            f"train.optimizer must be one that timm knows; got {config.optimizer!r}."
            f"{did_you_mean(config.optimizer, known)} Known: {', '.join(known[:8])}, ..."
        )


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    from timm.optim import create_optimizer_v2

    check_optimizer(config)
    # One kernel for all tensors; timm's own optimizers have no such option.
    options = {"fused": True} if config.optimizer == "adamw" else {}
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model, opt=config.optimizer, lr=config.lr, weight_decay=config.weight_decay, **options
    )
    return optimizer


def _scheduler(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> Any:
    from timm.scheduler import CosineLRScheduler

    return CosineLRScheduler(
        optimizer,
        t_initial=config.epochs * steps_per_epoch,
        lr_min=config.min_lr,
        warmup_t=round(config.num_warmup_epochs * steps_per_epoch),
        warmup_lr_init=config.warmup_lr,
        t_in_epochs=False,
    )


def _settings(model: nn.Module, data: DataSource, config: TrainConfig, seed: int) -> dict[str, Any]:
    """What a run must share with the state that it goes on from."""
    architecture = to_dict(model.config) if hasattr(model, "config") else None
    return {"model": architecture, "data": data.facts.name, "train": to_dict(config), "seed": seed}
