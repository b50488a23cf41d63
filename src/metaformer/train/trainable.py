"""Which weights are trained."""

from torch import nn

from metaformer.core.errors import ConfigError
from metaformer.train.config import TrainConfig


def set_trainable(model: nn.Module, config: TrainConfig) -> None:
    """Freezes what the recipe does not train.

    Raises:
        ConfigError: The model has no head to train.
    """
    if config.trainable == "all":
        return
    parameters = list(_head(model).parameters())
    if not parameters:
        raise ConfigError("train.trainable 'head' needs a model with a classifier; this one has none.")
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)


def set_training_mode(model: nn.Module, config: TrainConfig) -> None:
    """Training mode; where only the head is trained, the rest behaves as in evaluation, drop path and all."""
    model.train()
    if config.trainable == "head":
        model.eval()
        _head(model).train()


def _head(model: nn.Module) -> nn.Module:
    head = getattr(model, "head", None) or getattr(model, "get_classifier", nn.Identity)()
    return head if isinstance(head, nn.Module) else nn.Identity()
