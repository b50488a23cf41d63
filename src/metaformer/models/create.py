"""A model from a name or a config."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from metaformer.block.site import Grid
from metaformer.core.errors import ConfigError, shown
from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts import recognise
from metaformer.models.load_weights import load_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights, read_weights
from metaformer.models.zoo import ZOO


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
    asked = {"num_classes": num_classes, "in_chans": in_chans, "drop_path": drop_path}
    changes |= {key: value for key, value in asked.items() if value is not None}
    if image_size is not None:
        changes["image_size"] = tuple(image_size) if isinstance(image_size, list | tuple) else (image_size,) * 2
    model = MetaFormer(replace(config, **changes))
    if stored:
        load_weights(model, stored)
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
    classifier = weights.state.get(layout.key("head.fc.weight", config) or "")
    return facts if classifier is None else facts | {"num_classes": classifier.shape[0]}
