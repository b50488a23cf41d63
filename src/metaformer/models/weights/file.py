"""Weights files: our safetensors files carry their model's config; others are read for their tensors."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from metaformer.core.atomic_write import atomic_path
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import DataError, one_line, shown
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights.config_fits import require_fit
from metaformer.models.weights.download import fetch
from metaformer.models.weights.pickled import read_pickled
from metaformer.models.weights.wrapped import unwrap

WEIGHTS_FILE = "model.safetensors"
CONFIG_KEY = "metaformer_config"
CLASSES_KEY = "class_names"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a weights file holds."""

    source: str
    state: dict[str, Tensor]
    config: MetaFormerConfig | None = None  # of the model that the weights come from, where the file says so
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # on how they were wrapped
    doubts: tuple[str, ...] = ()  # what the caller may not expect: which of several was taken


def save_weights(model: MetaFormer, path: Path, *, class_names: tuple[str, ...] = ()) -> None:
    """Writes the model's weights, config and class names as one safetensors file."""
    metadata = {CONFIG_KEY: json.dumps(to_dict(model.config)), CLASSES_KEY: json.dumps(class_names)}
    write_tensors(model.state_dict(), path, metadata)


def write_tensors(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Writes tensors as a safetensors file, whole or not at all."""
    # Weights may come in any memory format and share memory; the file holds them contiguous and apart.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    content = save(plain, metadata=metadata)
    # The library writes metadata in another order every time, and equal weights are to be equal files.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(end - 8)
    # Python's own file knows why a write fails.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(content)[end:])


def read_weights(source: str | Path, *, like: MetaFormerConfig | None = None) -> Weights:
    """Reads weights, wherever they are and whoever wrote them; the content decides, not the file's name.

    Args:
        source: A safetensors or PyTorch file, a run folder, a URL, or a hub id `hf://owner/name`.
        like: The caller's own config: the file may refer to the classes in it, those from outside the package too.

    Raises:
        DataError: Nothing is there, it is damaged, or it is not plain tensors.
    """
    path = fetch(source)
    try:
        if path.is_dir():
            path = path / WEIGHTS_FILE
        is_there = path.is_file()
    # A name that is too long.
    except OSError:
        is_there = False
    if not is_there:
        where = path if str(path).isprintable() else shown(str(path))
        raise DataError(f"no weights at {where}: there is no such file.")
    if _is_safetensors(path):
        return _read_safetensors(path, str(source), like)
    state, notes, doubts = unwrap(read_pickled(path), path)
    return Weights(source=str(source), state=state, notes=tuple(notes), doubts=tuple(doubts))


def _is_safetensors(path: Path) -> bool:
    """A safetensors file begins with the length of its header and an opening brace; a pickle with neither."""
    try:
        with path.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from None
    return path.suffix == ".safetensors" or start[8:9] == b"{"


def _read_safetensors(path: Path, source: str, like: MetaFormerConfig | None) -> Weights:
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    # The library knows more kinds of numbers than PyTorch: TypeError, AttributeError, KeyError, ...
    except Exception as error:
        raise DataError(f"cannot read {path} as safetensors: {one_line(error, 200)}") from None
    try:
        stored = json.loads(metadata[CONFIG_KEY]) if CONFIG_KEY in metadata else None
        named = () if like is None else (type(like.norm), *map(type, like.token_mixers))
        config = from_dict(MetaFormerConfig, stored, named=named) if stored is not None else None
        class_names = tuple(str(name) for name in json.loads(metadata.get(CLASSES_KEY, "[]")))
    # ValueError: a number of too many digits; AttributeError, TypeError: JSON of another form.
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"the config inside {path} cannot be read: {one_line(error, 300)}") from None
    state, notes, doubts = unwrap(state, path)
    if config is not None:
        require_fit(config, state, path)
    return Weights(
        source=source, state=state, config=config, class_names=class_names, notes=tuple(notes), doubts=tuple(doubts)
    )
