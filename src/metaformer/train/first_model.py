"""The model as a training begins with it: its first weights, what of it is trained, and how it computes."""

import logging
from dataclasses import replace
from itertools import islice
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.compiling import compile_module, compiler_names, cpp_compiler
from metaformer.core.errors import ConfigError
from metaformer.core.seeding import key_seed
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.source import DataSource
from metaformer.models.create import create_model
from metaformer.models.timm_model import ModelConfig, TimmModelConfig, build_model
from metaformer.train.config import Execution, Run, TrainConfig

C = TypeVar("C", bound=ModelConfig)
log = logging.getLogger("metaformer.train")
NUM_BATCHES, IMAGES_AT_ONCE, PATCHES_A_BATCH = 32, 128, 8192
# Added to a variance of 1 or so: what is weaker is noise, or was lost when the image was compressed.
EPS = 1e-2


def fit_to_data(config: C, data: DataSource) -> C:
    """The same architecture for the data's classes and images."""
    sized = replace(config, num_classes=len(data.facts.class_names))
    # mypy takes the union for the result of either class's method.
    return cast(C, sized.with_input(data.facts.model_input))


def first_model(run: Run, data: DataSource) -> nn.Module:
    """The model as training begins with it: random weights by the run's seed, or the given ones.

    Raises:
        ConfigError: The given weights do not fit, or the patch embedding cannot be whitened as asked.
        DataError: They cannot be read.
    """
    torch.manual_seed(key_seed("weights", run.seed))
    config = fit_to_data(run.model, data)
    if run.weights is None:
        fresh = build_model(config)
        if run.train.whitening:
            whiten_patches(fresh, data, seed=run.seed)
        return fresh
    if run.train.whitening:
        raise ConfigError("train.whitening is for first weights, and weights to start from are given. Leave one out.")
    if isinstance(config, TimmModelConfig):
        raise ConfigError(f"weights to start from are for MetaFormers; this is {config.name!r} of timm.")
    model = create_model(
        config,
        weights=run.weights,
        num_classes=config.num_classes,
        in_chans=config.in_chans,
        image_size=config.image_size,
    )
    # The weights may come with other statistics than those of the data they are trained on now.
    model.config = replace(model.config, preprocessing=config.preprocessing)
    return model


def set_grad_checkpointing(model: nn.Module, execution: Execution) -> None:
    """Lets the model compute its activations twice, if that is wanted and the model can."""
    set_it = getattr(model, "set_grad_checkpointing", None)
    if callable(set_it):
        set_it(execution.grad_checkpointing)
    elif execution.grad_checkpointing:
        name = type(model).__name__
        log.warning(
            "execution.grad_checkpointing needs a model that offers it, and %s does not: going on without.", name
        )


def compiled(model: nn.Module, execution: Execution) -> nn.Module:
    """The model as `torch.compile` makes it, if that is wanted and there is a compiler; parameters are shared."""
    if not execution.compile:
        return model
    if next(model.parameters()).device.type == "cpu" and cpp_compiler() is None:
        log.warning(
            "execution.compile needs a C++ compiler (%s), and none is here: going on without.",
            ", ".join(compiler_names()),
        )
        return model
    return compile_module(model)


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


@torch.no_grad()
def whiten_patches(model: nn.Module, data: DataSource, *, seed: int) -> None:
    """Sets the first convolution to the directions in which patches vary most, each scaled to a variance of 1.

    Every direction is there with both signs, so that an activation behind it loses nothing; channels that are left over
    keep their weights. Neighbouring pixels are nearly equal, and an optimizer finds the little in which they differ
    late; now all directions are equally strong from the first step.

    Args:
        model: Has `stages[0].patch_embed.conv`.
        data: Its first training images, as augmented, give the patches.
        seed: Of order and augmentation.

    Raises:
        ConfigError: The model has no patch embedding of ours.

    Source: arXiv:2404.00498, Sec. 3.1, there with frozen weights.
    """
    conv = dict(model.named_modules()).get("stages.0.patch_embed.conv")
    if not isinstance(conv, nn.Conv2d):
        raise ConfigError(
            f"train.whitening needs a model with a patch embedding of ours; got {type(model).__name__}. Leave it out."
        )
    patches = _patches(data, conv, seed)
    variances, directions = torch.linalg.eigh((patches.T @ patches / len(patches)).double())
    # Rising order; the strongest first.
    scaled = (directions / (variances + EPS).sqrt()).flip(1).T.to(conv.weight)
    num = min(conv.out_channels // 2, len(scaled))
    kernels = scaled[:num].view(num, *conv.weight.shape[1:])
    conv.weight[: 2 * num] = torch.cat([kernels, -kernels])
    if conv.bias is not None:
        conv.bias[: 2 * num] = 0


def _patches(data: DataSource, conv: nn.Conv2d, seed: int) -> Float[Tensor, "patches values"]:
    """Some of the patches that the convolution sees, evenly over images and places."""
    parts: list[Tensor] = []
    plan = BatchPlan(seed=seed, epoch=0, batch_size=IMAGES_AT_ONCE)
    for images, _ in islice(data.train_batches(plan), NUM_BATCHES):
        unfolded = nn.functional.unfold(images.float(), conv.kernel_size, stride=conv.stride)
        patches = unfolded.transpose(1, 2).flatten(0, 1)
        parts.append(patches[:: max(1, len(patches) // PATCHES_A_BATCH)])
    return torch.cat(parts)
