"""Modules by their paths."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from metaformer.core.errors import ConfigError, did_you_mean


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a path, as `stages.2.blocks.3.token_mixer`.

    Raises:
        ConfigError: There is none; the message names the nearest path.
    """
    modules = dict(model.named_modules())
    if path not in modules or not path:
        raise _unknown_layer(path, list(modules))
    return modules[path]


def match_paths(model: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """The paths that fit any of the patterns, in the model's order; `*` stands for anything, dots included.

    Raises:
        ConfigError: A pattern fits nothing; the message names the nearest path.
    """
    paths = [path for path, _ in model.named_modules() if path]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise _unknown_layer(pattern, paths)
    return tuple(path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns))


def _unknown_layer(path: str, paths: Sequence[str]) -> ConfigError:
    known = [known for known in paths if known]
    hint = did_you_mean(path, known) or f" Its parts: {', '.join(name for name in known if '.' not in name)}."
    return ConfigError(f"no layer {path!r} in the model.{hint}")
