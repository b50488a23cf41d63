"""The table of training recipes."""

from collections.abc import Callable

from metaformer.core.registry import Registry
from metaformer.recipes.cifar10 import cifar10_convolution, cifar10_five_minutes, cifar10_small
from metaformer.recipes.digits_quick import digits_quick
from metaformer.recipes.finetune import finetune
from metaformer.recipes.metaformer_baselines_imagenet import metaformer_baselines_imagenet
from metaformer.recipes.poolformer_imagenet import poolformer_imagenet
from metaformer.train.config import Run

# Each takes the name of a model, and has a default for it.
RECIPES: Registry[Callable[..., Run]] = Registry(
    "recipe",
    {
        "digits-quick": digits_quick,
        "cifar10-small": cifar10_small,
        "cifar10-convolution": cifar10_convolution,
        "cifar10-five-minutes": cifar10_five_minutes,
        "finetune": finetune,
        "poolformer-imagenet": poolformer_imagenet,
        "metaformer-baselines-imagenet": metaformer_baselines_imagenet,
    },
)
