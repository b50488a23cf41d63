"""A model of another architecture, built by timm: what a MetaFormer is compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from metaformer.block.site import Grid
from metaformer.core.errors import ConfigError, did_you_mean, unknown
from metaformer.core.preprocessing import ModelInput, Preprocessing
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer

JSON = (bool, int, float, str, type(None))


@dataclass(frozen=True, kw_only=True)
class TimmModelConfig:
    """A model by name, with the options that its builder in timm takes."""

    name: str  # resnet, resmlp, vit, or a name that timm registers
    options: dict[str, Any] = field(default_factory=dict, hash=False)  # plain JSON values; lists, no tuples
    width_options: tuple[str, ...] = ()  # the options that widen the model: numbers or lists of channels
    width_multiple: int = 4  # what those must stay multiples of, as the number of heads
    image_size_option: str = ""  # the option that names the side in pixels, where a model is tied to one
    num_classes: int = 1000
    in_chans: int = 3
    image_size: Grid = (224, 224)  # height and width, in pixels
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        # Read back from JSON, the same config must be equal.
        object.__setattr__(self, "options", {key: _plain(value, key) for key, value in self.options.items()})
        if self.name not in BUILDERS and not _timm_has(self.name):
            raise _unknown_name(self.name)
        for name in self.width_options:
            if name not in self.options:
                raise unknown("width option", name, self.options)
        if self.width_multiple < 1:
            raise ConfigError(f"TimmModelConfig.width_multiple must be at least 1; got {self.width_multiple}.")
        if self.num_classes < 1 or self.in_chans < 1:
            raise ConfigError(
                "TimmModelConfig.num_classes and in_chans must be at least 1; "
                f"got {self.num_classes} and {self.in_chans}."
            )

    def build(self) -> nn.Module:
        """The model, with timm's first weights; it carries this config as `config`.

        Raises:
            ConfigError: timm refuses an option.
        """
        options = self.options | {"num_classes": self.num_classes, "in_chans": self.in_chans}
        if self.image_size_option:
            options[self.image_size_option] = list(self.image_size)
        builder = BUILDERS.get(self.name)
        try:
            model = builder(_tuples(options)) if builder else _by_name(self.name, _tuples(options))
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            shown = ", ".join(f"{key}={value}" for key, value in self.options.items())
            raise ConfigError(f"timm cannot build {self.name!r} with {shown or 'no options'}: {error}") from None
        model.config = self  # type: ignore[assignment]
        return model

    @property
    def model_input(self) -> ModelInput:
        """What the model takes."""
        return ModelInput(image_size=self.image_size, in_chans=self.in_chans, preprocessing=self.preprocessing)

    def with_input(self, given: ModelInput) -> "TimmModelConfig":
        """The same architecture for other images."""
        return replace(self, image_size=given.image_size, in_chans=given.in_chans, preprocessing=given.preprocessing)


ModelConfig = MetaFormerConfig | TimmModelConfig


def build_model(config: ModelConfig) -> nn.Module:
    """The model of a config, whichever kind it is."""
    return config.build() if isinstance(config, TimmModelConfig) else MetaFormer(config)


def _resnet(options: Mapping[str, Any]) -> nn.Module:
    """The ResNet of timm; `stem_pool=False` leaves out the pooling of the stem, as is usual for small images."""
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    blocks = {"basic": BasicBlock, "bottleneck": Bottleneck}
    given = {key: value for key, value in options.items() if key not in ("block", "stem_pool", "stem_stride")}
    kind = options.get("block", "basic")
    if kind not in blocks:
        raise unknown("block", kind, blocks)
    model: Any = ResNet(block=blocks[kind], **given)
    if not options.get("stem_pool", True):
        model.maxpool = nn.Identity()
    if "stem_stride" in options:
        model.conv1.stride = (options["stem_stride"],) * 2
    built: nn.Module = model
    return built


def _resmlp(options: Mapping[str, Any]) -> nn.Module:
    """The MLP-Mixer class of timm as ResMLP; timm's own entry points fix its sizes."""
    from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock

    return MlpMixer(**{"mlp_ratio": 4, "block_layer": ResBlock, "norm_layer": Affine} | dict(options))


def _vit(options: Mapping[str, Any]) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**options)


BUILDERS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {"resnet": _resnet, "resmlp": _resmlp, "vit": _vit}


def _by_name(name: str, options: Mapping[str, Any]) -> nn.Module:
    from timm import create_model

    return create_model(name, **options)


def _timm_has(name: str) -> bool:
    from timm import is_model

    return bool(is_model(name))


def _unknown_name(name: str) -> ConfigError:
    from timm import list_models

    hint = did_you_mean(name, [*BUILDERS, *list_models()])
    return ConfigError(
        f"unknown timm model {name!r}.{hint} Known: {', '.join(BUILDERS)}, and what timm.list_models() names."
    )


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if not isinstance(value, JSON):
        raise ConfigError(
            f"TimmModelConfig.options must hold numbers, text, true or false, and lists of those; got {key}={value!r}."
        )
    return value


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in options.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
