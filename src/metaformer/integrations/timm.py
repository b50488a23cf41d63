"""Every model of the zoo in timm, as `mf_<name>`: import this module, then use timm.

    import metaformer.integrations.timm
    timm.create_model("mf_poolformer_s12", num_classes=10, in_chans=1, features_only=True)

Weights of every layout that `metaformer.load_weights` knows load through timm too (`pretrained_cfg_overlay=
dict(file=...)`), and models go to the hub and come from it in timm's own format. A model of your own: `register`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import Tensor, nn

from metaformer.block.site import Site
from metaformer.core.errors import ConfigError, unknown
from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts import LAYOUTS, recognise
from metaformer.models.load_weights import CLASSIFIER, FIRST_CONV, load_weights, tied_modules
from metaformer.models.metaformer import MetaFormer, describe_for_timm
from metaformer.models.weights import Weights
from metaformer.models.weights.wrapped import unwrap
from metaformer.models.zoo import ZOO

PREFIX = "mf_"
OURS = "metaformer"


class UnknownOptionError(ConfigError, TypeError):
    """An option that no model has; a TypeError as well, as timm's users expect."""


def build(
    config: MetaFormerConfig,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Sequence[int] | None = None,
    global_pool: str = "avg",
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    head_layout: str = OURS,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> MetaFormer:
    """A model from timm's options; None leaves what the config says.

    Args:
        config: Of the model with no options given.
        num_classes: Classes; 0 leaves out the classifier.
        in_chans: Channels of the image.
        img_size: Side, or height and width, in pixels.
        global_pool: "avg", or with 0 classes "" to keep the grid.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Rate of stochastic depth in the last block.
        head_layout: Whose head to compute: a name in LAYOUTS. Weights that come from elsewhere bring theirs.
        device: Where the model is built.
        dtype: Of its numbers.

    Raises:
        ConfigError: A value is wrong.
    """
    dropout = config.head.dropout if drop_rate is None else drop_rate
    asked: dict[str, Any] = {
        "num_classes": num_classes,
        "in_chans": in_chans,
        "image_size": (img_size, img_size) if isinstance(img_size, int) else img_size and tuple(img_size),
        "drop_path": drop_path_rate,
        "head": LAYOUTS[head_layout].head(replace(config.head, dropout=dropout)),
    }
    config = replace(config, **{option: value for option, value in asked.items() if value is not None})
    with torch.device(device if device is not None else torch.get_default_device()):
        model = MetaFormer(config)
    if global_pool != model.head.global_pool:
        model.reset_classifier(config.num_classes, global_pool)
    return model.to(dtype=dtype)


BUILD_OPTIONS = tuple(inspect.signature(build).parameters)[1:]
FEATURE_OPTIONS = ("out_indices", "feature_cls")
OPTIONS = (
    *BUILD_OPTIONS,
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
    "features_only",
    *FEATURE_OPTIONS,
)
# timm passes it when it reads a model folder: the options that the model was saved with.
INTERNAL_OPTIONS = ("pretrained_model_args",)


def checkpoint_filter_fn(state: dict[str, Any], model: MetaFormer) -> dict[str, Tensor]:
    """Weights of any known layout as weights of this model, for timm to load; it is timm that calls this.

    The model takes the head of the repository that the weights come from.

    Raises:
        ConfigError: The layout is unknown, or the weights do not fit.
        DataError: It holds no weights.
    """
    facts = model.pretrained_cfg
    source = next((str(facts[key]) for key in ("file", "hf_hub_id", "url") if facts.get(key)), "the state dict")
    # From a URL timm hands over what it read: the weights may lie inside.
    state, _, _ = unwrap(state, Path(source))
    layout = recognise(state, source)
    _take_head(model, layout.name)
    load_weights(model, Weights(source=source, state=state, config=_config_of_source(model)))
    loaded = model.state_dict()
    # These two timm adapts by itself, to other channels and other classes, so it gets them as they came.
    for ours in (FIRST_CONV, f"{CLASSIFIER}weight", f"{CLASSIFIER}bias"):
        theirs = layout.key(ours, model.config)
        if theirs in state:
            loaded[ours] = state[theirs]
    return loaded


def _take_head(model: MetaFormer, layout: str) -> None:
    """Gives the model the head of a layout, in place; its classifier stays."""
    head = LAYOUTS[layout].head(model.config.head)
    if head == model.config.head:
        return
    like = next(model.parameters())
    donor = MetaFormer(replace(model.config, head=head, depths=(1,) * model.config.num_stages))
    donor.head.global_pool, donor.head.fc = model.head.global_pool, model.head.fc
    donor.to(like).train(model.training)
    model.norm, model.head = donor.norm, donor.head
    model.config = replace(model.config, head=head)
    # timm writes these options into the config.json of a model folder, and builds the model with them again.
    model._model_args = {"head_layout": layout}  # type: ignore[assignment]


def _config_of_source(model: MetaFormer) -> MetaFormerConfig | None:
    """Of the model that the weights come from, where a config.json beside them says so."""
    facts = model.pretrained_cfg
    if facts.get("source") not in ("local-dir", "hf-hub"):
        return None
    in_chans, height, width = facts["input_size"]
    return replace(model.config, num_classes=facts["num_classes"], in_chans=in_chans, image_size=(height, width))


def _check_options(options: dict[str, Any]) -> None:
    for option in options:
        if option not in (*OPTIONS, *INTERNAL_OPTIONS):
            raise UnknownOptionError(str(unknown("option", option, OPTIONS)))
    for option in FEATURE_OPTIONS:
        if option in options and not options.get("features_only"):
            raise ConfigError(f"{option} chooses features, so it needs features_only=True.")


def _entrypoint(name: str, config: MetaFormerConfig) -> Callable[..., nn.Module]:
    """The function that timm calls to create the model."""

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        _check_options(options)
        features = {
            "out_indices": tuple(range(config.num_stages)),
            "feature_cls": "getter",
            "flatten_sequential": True,  # for feature_cls="list": the stages are the features
        }
        return build_model_with_cfg(
            partial(build, config),
            name,
            pretrained,
            feature_cfg=features,
            pretrained_filter_fn=checkpoint_filter_fn,
            **options,
        )

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"{name.removeprefix(PREFIX)} of the zoo, from timm's options: {', '.join(OPTIONS)}."
    return create


def _is_tied_to_grid(config: MetaFormerConfig) -> bool:
    """What MetaFormer.is_tied_to_grid will be, without building the model."""
    with torch.device("meta"):
        mixers = [
            mixer.build(Site(dim=dim, grid=grid, stage=stage, index=0))
            for stage, (mixer, dim, grid) in enumerate(zip(config.token_mixers, config.dims, config.grids, strict=True))
        ]
    return bool(config.position_embedding_stages) or any(tied_modules(mixer) for mixer in mixers)


def register(name: str, config: MetaFormerConfig) -> None:
    """Makes a model known to timm as `mf_<name>`.

    Raises:
        ConfigError: timm has a model of this name.
    """
    registered = f"{PREFIX}{name}"
    if is_model(registered):
        raise ConfigError(f"timm has a model {registered!r} already. Choose another name.")
    facts = describe_for_timm(config, fixed_input_size=_is_tied_to_grid(config))
    default_cfgs.update(generate_default_cfgs({registered: facts}))
    globals()[registered] = register_model(_entrypoint(registered, config))


# timm's register_model reads the first and extends the second.
default_cfgs: dict[str, Any] = {}
__all__ = ["UnknownOptionError", "build", "checkpoint_filter_fn", "register"]

for _name, _config in ZOO.items():
    # Imported anew, the module leaves timm as it is.
    if not is_model(f"{PREFIX}{_name}"):
        register(_name, _config)
