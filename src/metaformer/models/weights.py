"""Weights files: a safetensors file that carries its model's config."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metaformer.core.atomic_write import atomic_path
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer

WEIGHTS_FILE = "model.safetensors"
CONFIG_KEY = "metaformer_config"
CLASSES_KEY = "class_names"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a weights file holds."""

    source: str
    state: dict[str, Tensor]
    config: MetaFormerConfig | None  # of the model that the weights come from, where the file says so
    class_names: tuple[str, ...] = ()


def save_weights(model: MetaFormer, path: Path, *, class_names: tuple[str, ...] = ()) -> None:
    """Writes the model's weights, config and class names as one safetensors file."""
    # Weights may be saved from any memory format; the file holds them contiguous.
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {CONFIG_KEY: json.dumps(to_dict(model.config)), CLASSES_KEY: json.dumps(class_names)}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata=metadata)


def read_weights(source: str | Path, *, like: MetaFormerConfig | None = None) -> Weights:
    """Reads a weights file, given itself or the run folder that holds it.

    Args:
        source: Where the weights are.
        like: The caller's own config: the file may refer to the classes in it, those from outside the package too.

    Raises:
        DataError: Nothing is there, or it is not a whole safetensors file.
    """
    path = Path(source)
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise DataError(f"no weights at {path}: there is no such file.")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as safetensors: {error}") from None
    try:
        stored = json.loads(metadata[CONFIG_KEY]) if CONFIG_KEY in metadata else None
        named = () if like is None else (type(like.norm), *map(type, like.token_mixers))
        config = from_dict(MetaFormerConfig, stored, named=named) if stored is not None else None
        class_names = tuple(str(name) for name in json.loads(metadata.get(CLASSES_KEY, "[]")))
    except (ConfigError, json.JSONDecodeError, TypeError, RecursionError) as error:
        raise DataError(f"the config inside {path} cannot be read: {error}") from None
    return Weights(source=str(path), state=state, config=config, class_names=class_names)
