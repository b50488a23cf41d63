"""A model from a name or a config."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from metaformer.block.site import Grid
from metaformer.core.errors import ConfigError, shown
from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts import recognise
from metaformer.models.load_weights import load_weights, num_classes_of, other_function
from metaformer.models.metaformer import MetaFormer
from metaformer.models.same_function import differences
from metaformer.models.weights import Weights, read_weights
from metaformer.models.zoo import ZOO

log = logging.getLogger("metaformer.models")


def create_model(
    name_or_config: str | MetaFormerConfig,
    *,
    weights: str | Path | Weights | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: int | Grid | None = None,
    drop_path: float | None = None,
) -> MetaFormer:
    """Builds a model, with random weights or with those of a file.

    What is not given comes from the weights, then from the config. The classifier is made anew only when
    `num_classes` differs from that of the weights.

    Args:
        name_or_config: A name in the zoo (`list_models()`), or a config.
        weights: A file of any known layout, a run folder, a URL or a hub id (`hf://owner/name`), or weights already
            read; None draws weights from PyTorch's generator.
        num_classes: Classes; 0 leaves out the classifier.
        in_chans: Channels of the image.
        image_size: Side, or height and width, in pixels; weights tied to another grid are resized.
        drop_path: Rate of stochastic depth in the last block.

    Raises:
        ConfigError: A name or a value is wrong, or the weights do not fit.
        DataError: The weights cannot be read.
    """
    config = ZOO[name_or_config] if isinstance(name_or_config, str) else name_or_config
    _check_kinds(config, weights)
    stored = read_weights(weights, like=config) if isinstance(weights, str | Path) else weights
    changes: dict[str, Any] = _facts_of(stored, config) if stored else {}
    if stored and stored.config and (other := differences(stored.config, replace(config, **changes))):
        # Before anything is built: the image size of one model may be too large for another.
        raise other_function(stored, other)
    asked = {"num_classes": num_classes, "in_chans": in_chans, "drop_path": drop_path}
    changes |= {key: value for key, value in asked.items() if value is not None}
    if image_size is not None:
        changes["image_size"] = tuple(image_size) if isinstance(image_size, list | tuple) else (image_size,) * 2
    model = MetaFormer(replace(config, **changes))
    if stored:
        for doubt in load_weights(model, stored).doubts:
            log.warning("weights of %s: %s.", stored.source, doubt)
    return model


def _check_kinds(config: object, weights: object) -> None:
    if not isinstance(config, MetaFormerConfig):
        raise ConfigError(
            f"a model is a name of the zoo (see list_models()) or a MetaFormerConfig; got {shown(config)}."
            + (" A model of timm: build_model(config)." if type(config).__name__ == "TimmModelConfig" else "")
        )
    if weights is not None and not isinstance(weights, str | Path | Weights):
        raise ConfigError(f"weights must be a path, a URL or a hub id (hf://owner/name); got {shown(weights)}.")


def _facts_of(weights: Weights, config: MetaFormerConfig) -> dict[str, Any]:
    """What weights say about their model, besides its architecture."""
    if weights.config is not None:
        names = ("num_classes", "in_chans", "image_size", "preprocessing", "head")
        return {name: getattr(weights.config, name) for name in names}
    layout = recognise(weights.state, weights.source)
    # The same weights are another function in a repository whose head differs: the model follows the weights' origin.
    facts: dict[str, Any] = {"head": layout.head(config.head)}
    return facts | {"num_classes": num_classes_of(weights, layout, config)}
