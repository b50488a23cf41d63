"""The exponential moving average of the weights over steps."""

from typing import Any

from torch import nn

from metaformer.train.config import TrainConfig


def make_average(model: nn.Module, config: TrainConfig) -> Any:
    """Timm's average of the model's weights and buffers, or None where the recipe wants none."""
    if config.ema_decay is None:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=config.ema_decay)
