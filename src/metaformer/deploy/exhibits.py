"""Models to look at, trained or not, from whatever a person has at hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.analysis.probe import Exhibit
from metaformer.core.configs import from_dict
from metaformer.core.errors import ConfigError, did_you_mean
from metaformer.core.records import RUN_FILE, read_json
from metaformer.data.class_order import match_classes
from metaformer.data.source import DataFacts
from metaformer.deploy.classifier import is_weights, renormalise
from metaformer.models.create import create_model
from metaformer.models.identify import identify
from metaformer.models.timm_model import ModelConfig, TimmModelConfig, build_model
from metaformer.models.weights import WEIGHTS_FILE, Weights, read_weights
from metaformer.models.zoo import ZOO

TIMM = "timm/"  # in front of a name that timm registers


class Opened:
    """A model with its config and class names, on its device."""

    def __init__(self, word: str, model: nn.Module, *, class_names: tuple[str, ...], is_trained: bool) -> None:
        self.word, self.model, self.class_names, self.is_trained = word, model, class_names, is_trained
        config: Any = model.config
        self.config: ModelConfig = config

    def exhibit(self, *, name: str, facts: DataFacts | None) -> Exhibit:
        """The same for probes.

        Args:
            name: Under which it is shown.
            facts: Of the images, where they have classes; the model is then given what it was trained on: its own
                normalisation, its own order of classes.

        Raises:
            ConfigError: The model has other classes than the images.
        """
        index: tuple[int, ...] = ()
        if facts is not None:
            order = match_classes(facts.class_names, self.class_names, self.config.num_classes, order_is_by_name=False)
            index = order.index
            preprocessing = self.config.preprocessing
            if self.is_trained and (facts.mean, facts.std) != (preprocessing.mean, preprocessing.std):
                self.model.register_forward_pre_hook(
                    lambda _, args: (renormalise(args[0], facts.model_input.preprocessing, preprocessing), *args[1:])
                )
        config = self.config
        return Exhibit(
            name=name,
            model=self.model,
            build=lambda: build_model(config),
            is_trained=self.is_trained,
            class_index=index,
        )


def open_model(
    word: str, *, image_size: int | tuple[int, ...] | None = None, data: DataFacts | None = None, device: torch.device
) -> Opened:
    """Opens a model by a word.

    Args:
        word: A run folder, weights file, URL or hub id: trained. A name of the zoo, or `timm/NAME`: first weights, for
            the classes and channels of the data.
        image_size: In pixels, if not the model's own.
        data: What it will be shown.
        device: Where it shall be.

    Raises:
        ConfigError: There is no such model.
        DataError: Weights cannot be read.
    """
    stored: Weights | None = None
    if word in ZOO or word.startswith(TIMM):
        changes: dict[str, Any] = {}
        if data is not None:
            changes = {"num_classes": len(data.class_names), "in_chans": data.in_chans}
            image_size = data.image_size if image_size is None else image_size
        if word in ZOO:
            model: nn.Module = create_model(word, image_size=image_size, **changes)
        else:
            if image_size is not None:
                changes["image_size"] = _pair(image_size)
            model = _timm(word.removeprefix(TIMM), changes)
    elif is_weights(word):
        stored = read_weights(word)
        theirs = _config_of_run(Path(word))
        if isinstance(theirs, TimmModelConfig):
            model = theirs.build()
            model.load_state_dict(stored.state)
        else:
            model = create_model(stored.config or ZOO[identify(stored)], weights=stored, image_size=image_size)
    else:
        raise ConfigError(
            f"{word!r} is no model of the zoo, no folder with {WEIGHTS_FILE}, and not {TIMM}NAME."
            f"{did_you_mean(word, ZOO)} See: metaformer models"
        )
    names = stored.class_names if stored else data.class_names if data else ()
    return Opened(word, model.to(device).eval(), class_names=names, is_trained=stored is not None)


def _config_of_run(folder: Path) -> ModelConfig | None:
    """What a training's record says of its model: weights of other architectures than ours do not say it themselves."""
    path = folder / RUN_FILE
    if not path.exists():
        return None
    model = read_json(path).get("config", {}).get("model", {})
    return from_dict(TimmModelConfig, model) if isinstance(model, dict) and "options" in model else None


def _timm(name: str, changes: dict[str, Any]) -> nn.Module:
    """A model of timm; one that is tied to an image size is built for the one that is asked for."""
    config = TimmModelConfig(name=name, **changes)
    try:
        return replace(config, image_size_option="img_size").build()
    except ConfigError:
        return config.build()


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else size
