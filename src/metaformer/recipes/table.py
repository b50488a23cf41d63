"""The table of training recipes, and the settings of one for a model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.core.configs import parse_configs
from metaformer.core.errors import ConfigError
from metaformer.core.registry import Registry
from metaformer.models.config import MetaFormerConfig
from metaformer.models.identify import identify
from metaformer.models.weights import read_weights
from metaformer.models.zoo import ZOO
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


def recipe(name: str, *, model: str = "", weights: str = "") -> Run:
    """What a recipe trains, and how.

    Args:
        name: Of the recipe.
        model: A name of the zoo; the recipe's own if not given.
        weights: To start from, as `create_model` takes them; without a model, they say which.

    Raises:
        ConfigError: The recipe or the model is unknown.
        DataError: The weights cannot be read.
    """
    settings = RECIPES[name]
    config: MetaFormerConfig | None = None
    if model:
        # The table's error names the nearest.
        ZOO[model]
    elif weights:
        stored = read_weights(weights)
        config, model = stored.config, "" if stored.config else identify(stored)
    run = settings(model) if model else settings()
    return replace(run, model=config, name=Path(weights).name) if config else run


def with_token_mixers(run: Run, text: str) -> Run:
    """The same run with other token mixers, written as in `pooling,pooling,attention,attention`; one is for all stages.

    Raises:
        ConfigError: The text names nothing known, or the model is none of ours.
    """
    if not isinstance(run.model, MetaFormerConfig):
        raise ConfigError(f"token mixers are for MetaFormers; {run.name} trains {run.model.name!r} of timm.")
    mixers = parse_configs(text, TOKEN_MIXERS)
    stages = mixers * run.model.num_stages if len(mixers) == 1 else mixers
    return replace(run, model=replace(run.model, token_mixers=stages))
