"""The optimizer, the schedule of its learning rate, and the average of the weights: all timm's."""

from typing import Any

import torch
from torch import nn

from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.train.config import TrainConfig
from metaformer.train.muon import Muon


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
    """Timm's average of the model's weights and buffers, or None where the recipe wants none."""
    if config.ema_decay is None:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=config.ema_decay)
