"""The same architecture, wider or narrower."""

from collections.abc import Sequence
from dataclasses import replace
from math import lcm
from typing import Any

from metaformer.models.config import MetaFormerConfig
from metaformer.models.timm_model import ModelConfig, TimmModelConfig

STEP = 4  # channels come in multiples of this, which suits vector units


def scaled(config: ModelConfig, width: float) -> ModelConfig:
    """The config with its channels times `width`, each rounded to what its stage allows."""
    if isinstance(config, TimmModelConfig):
        return _scaled_timm(config, width)
    return with_dims(config, [_round(dim * width, step) for dim, step in zip(config.dims, steps(config), strict=True)])


def steps(config: MetaFormerConfig) -> list[int]:
    """What the channels of each stage must be multiples of: whole heads, where a mixer has heads."""
    return [lcm(STEP, int(getattr(mixer, "head_dim", 1))) for mixer in config.token_mixers]


def with_dims(config: MetaFormerConfig, dims: Sequence[int]) -> MetaFormerConfig:
    """The config with other channels; itself where nothing changes."""
    return config if tuple(dims) == config.dims else replace(config, dims=tuple(dims))


def describe(config: ModelConfig) -> str:
    """The width in words: `dims 28, 56, 112, 144`."""
    if isinstance(config, MetaFormerConfig):
        return f"dims {', '.join(map(str, config.dims))}"
    shown = [f"{name} {_text(config.options[name])}" for name in config.width_options]
    return " and ".join(shown) or "width as given"


def _scaled_timm(config: TimmModelConfig, width: float) -> TimmModelConfig:
    wider = {name: _times(config.options[name], width, config.width_multiple) for name in config.width_options}
    return config if wider.items() <= config.options.items() else replace(config, options=config.options | wider)


def _times(value: Any, width: float, step: int) -> Any:
    return [_times(item, width, step) for item in value] if isinstance(value, list) else _round(value * width, step)


def _round(channels: float, step: int) -> int:
    return max(step, step * round(channels / step))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
