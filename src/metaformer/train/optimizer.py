"""The optimizer, the schedule of its learning rate, and the average of the weights: all timm's."""

import importlib.util
import logging
from typing import Any

import torch
from torch import nn

from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.train.config import TrainConfig
from metaformer.train.muon import Muon

# The loop takes one backward pass a step, and a run that goes on must end bit for bit as one that never stopped.
REFUSED = {
    "adahessian": "it needs the curvature, a second backward pass through the gradients",
    **dict.fromkeys(("kron", "kronc", "kronw"), "it draws random numbers that no checkpoint holds"),
}
# What the names of timm's optimizers for GPUs begin with, and the library behind them.
GPU_LIBRARIES = {"bnb": "bitsandbytes", "fused": "apex"}


def list_optimizers() -> list[str]:
    """The names that work here, of those that timm knows."""
    from timm.optim import list_optimizers as list_all

    return [name for name in list_all() if _reason_against(name) is None]


def check_optimizer(config: TrainConfig) -> None:
    """Refuses an optimizer that timm does not know, or that cannot work here.

    Raises:
        ConfigError: Says why, and names the nearest.
    """
    known = list_optimizers()
    if config.optimizer in known:
        return
    reason = _reason_against(config.optimizer)
    why = f": {reason}" if reason else ""
    raise ConfigError(
        f"train.optimizer must be one that timm knows and that works here; got {config.optimizer!r}{why}."
        f"{did_you_mean(config.optimizer, known)} Known: {', '.join(known[:8])}, ..."
    )


def _reason_against(name: str) -> str | None:
    """Why a name that timm knows cannot be chosen here."""
    if name in REFUSED:
        return REFUSED[name]
    library = next((library for start, library in GPU_LIBRARIES.items() if name.startswith(start)), None)
    if library is None:
        return None
    if not torch.cuda.is_available():
        return f"it needs an NVIDIA GPU and {library}"
    return None if importlib.util.find_spec(library) else f"it needs {library}, which is not installed"


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer over the parameters that are trained; weight decay spares norms, biases and scales.

    Raises:
        ConfigError: timm does not know it.
    """
    from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay

    check_optimizer(config)
    if config.optimizer == "muon":
        decay = {"weight_decay": config.weight_decay}
        layers = {} if config.layer_decay is None else {"layer_decay": config.layer_decay}
        groups = (param_groups_layer_decay if layers else param_groups_weight_decay)(model, **decay, **layers)
        return Muon(groups, lr=config.peak_lr, momentum=config.momentum)
    # One kernel for all tensors; timm's own optimizers have no such option. It divides by the loss scale of float16 by
    # itself, too late for a limit on the gradient's norm.
    is_fused = config.optimizer == "adamw" and not (config.precision == "16-mixed" and config.clip_grad_norm)
    options = {"fused": True} if is_fused else {}
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.peak_lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        layer_decay=config.layer_decay,
        **options,
    )
    return optimizer


def make_scheduler(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> Any:
    """The learning rate by the number of steps done: `scheduler.step_update(step)`."""
    from timm.scheduler import CosineLRScheduler, PolyLRScheduler, StepLRScheduler

    # It warns of a schedule of a single step, which is as short as asked.
    logging.getLogger("timm.scheduler").setLevel(logging.ERROR)
    warmup_steps = round(config.num_warmup_epochs * steps_per_epoch)
    # Rounding may leave no step between warm-up and cooldown; timm wants one.
    last_step = max(warmup_steps + 1, round((config.epochs - config.cooldown_epochs) * steps_per_epoch))
    warmup = {"warmup_t": warmup_steps, "warmup_lr_init": config.warmup_lr, "t_in_epochs": False}
    if config.schedule == "constant":
        return StepLRScheduler(optimizer, decay_t=1, decay_rate=1.0, **warmup)
    if config.schedule == "linear":
        # Straight from the end of the warm-up to that of the schedule.
        return PolyLRScheduler(
            optimizer,
            t_initial=last_step - warmup_steps,
            power=1.0,
            lr_min=config.min_lr,
            warmup_prefix=True,
            **warmup,
        )
    return CosineLRScheduler(optimizer, t_initial=last_step, lr_min=config.min_lr, **warmup)


def make_average(model: nn.Module, config: TrainConfig) -> Any:
    """Timm's average of the model's weights and buffers, or None where the recipe wants none.

    It warms up: after n updates the decay of the next is at most n / (10 + n), so that it reaches back over a tenth of
    the training so far, and a short run is not judged by its first weights. `update(model, step)` counts from 1.

    Source: the decay by number of updates of TensorFlow's `ExponentialMovingAverage`.
    """
    if config.ema_decay is None:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=config.ema_decay, use_warmup=True, warmup_gamma=10.0, warmup_power=1.0)
