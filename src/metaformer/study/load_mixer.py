"""A token mixer that the user names: one of ours, or a class in a file of theirs."""

import ast
import hashlib
import importlib
import re
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from metaformer.block.token_mixers import TOKEN_MIXERS, TokenMixerConfig
from metaformer.core.configs import format_config, from_dict, parse_config
from metaformer.core.errors import ConfigError, did_you_mean

FORM = "Write it as module:Class, file.py:Class or a known name, with options as in module:Class(step=2)."


@dataclass(frozen=True, kw_only=True)
class NamedMixer:
    """A token mixer and what to call it."""

    name: str  # of folders and records
    title: str
    config: TokenMixerConfig
    source_sha256: str = ""  # of the file that defines it; "" for a known name, whose source is the package's commit


def load_mixer(text: str) -> NamedMixer:
    """The config behind a text; a module is imported only because the text names it.

    Args:
        text: `pooling`, `pooling(pool_size=5)`, `my_module:MyConfig`, `folder/my_file.py:MyConfig(step=2)`.

    Raises:
        ConfigError: Nothing of that name can be imported, or it is no config of a token mixer.
    """
    place, colon, rest = text.partition(":")
    if not colon:
        config = parse_config(text, TOKEN_MIXERS)
        name = TOKEN_MIXERS.name_of(type(config)) or text
        # The title says which options; the name stays short.
        options_text = format_config(config, TOKEN_MIXERS).removeprefix(name)
        title = f"{name.replace('_', ' ').capitalize()} {options_text}".strip()
        return NamedMixer(name=name, title=title, config=config)
    class_name, options = _call(rest, text)
    cls = _class(_module(place.strip()), class_name, place)
    config = from_dict(cls, options, named=[cls])
    if not callable(getattr(config, "build", None)):
        raise ConfigError(f"{place}:{class_name} has no build(site), which makes the module of a token mixer.")
    title = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", class_name.removesuffix("Config") or class_name)
    if title.lower().replace(" ", "_") in TOKEN_MIXERS:
        title = f"Own {title}"
    return NamedMixer(
        name=title.lower().replace(" ", "_"),
        title=title.capitalize(),
        config=config,
        source_sha256=_sha256(sys.modules.get(cls.__module__)),
    )


def _call(rest: str, text: str) -> tuple[str, dict[str, Any]]:
    try:
        node = ast.parse(rest.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        name = call.func if call else node
        if not isinstance(name, ast.Name) or (call and call.args):
            raise ValueError
        return name.id, {word.arg or "**": ast.literal_eval(word.value) for word in (call.keywords if call else [])}
    except (SyntaxError, ValueError):
        raise ConfigError(f"cannot read {text!r} as a token mixer. {FORM}") from None


def _module(place: str) -> Any:
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise ConfigError(f"there is no file {place!r}. {FORM}")
        folder, name = str(path.resolve().parent), path.stem
    else:
        folder, name = str(Path.cwd()), place
    # Runs happen in processes of their own, which look where this one looks.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ConfigError(f"cannot import {name!r}: it needs {error.name!r}, which is not installed.") from None
        raise ConfigError(f"there is no module {name!r} in {folder} or installed. {FORM}") from None
    # Whatever the user's file does when it is imported.
    except Exception as error:
        raise ConfigError(f"cannot import {name!r}: {type(error).__name__}: {error}") from None


def _sha256(module: Any) -> str:
    """Of a module's file; "" where it has none that can be read."""
    try:
        return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
    except (AttributeError, TypeError, OSError):
        return ""


def _class(module: Any, name: str, place: str) -> type:
    cls = getattr(module, name, None)
    if isinstance(cls, type) and is_dataclass(cls):
        return cls
    known = [key for key, value in vars(module).items() if isinstance(value, type) and is_dataclass(value)]
    what = "is no dataclass" if cls is not None else "does not exist"
    raise ConfigError(
        f"{place}:{name} {what}; a token mixer is a frozen dataclass with build(site).{did_you_mean(name, known)} "
        f"Dataclasses there: {', '.join(known) or 'none'}."
    )
