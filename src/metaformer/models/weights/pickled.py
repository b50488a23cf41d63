"""Weights out of foreign pickles, without running what is in them."""

import argparse
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaformer.core.errors import DataError, first_line

# Where training scripts put the weights; averaged weights first, as timm reads its own checkpoints.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
PREFIX = "module."  # of data parallel training


def read_pickled_weights(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a .pth, .pth.tar, .pt or .bin file.

    Returns:
        The state dict, and notes on how it was wrapped.

    Raises:
        DataError: The file is damaged, or holds more than plain tensors and numbers.
    """
    try:
        # timm's checkpoints carry the arguments of the training script: a plain holder of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        # A damaged file fails in many ways, few of them put in words.
        reason = first_line(error).split(". ")[0] if isinstance(error, RuntimeError | OSError) else ""
        raise DataError(
            f"cannot read {path}: it is neither safetensors nor a whole PyTorch file{f' ({reason})' if reason else ''}."
        ) from None
    return unwrap(loaded, path)


def _refusal(path: Path, message: str) -> DataError:
    forbidden = re.search(r"GLOBAL (\S+)", message)
    if not forbidden:
        return DataError(f"cannot read {path}: it is neither safetensors nor a whole PyTorch file.")
    return DataError(
        f"refused {path}: it holds more than plain tensors ({forbidden[1]}), and loading that could run code that "
        "somebody put there. Ask for the weights as safetensors."
    )


def unwrap(loaded: Any, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict inside what a training script saved.

    Raises:
        DataError: There is none.
    """
    notes: list[str] = []
    wrapper = next((name for name in WRAPPERS if isinstance(loaded, dict) and isinstance(loaded.get(name), dict)), None)
    if wrapper:
        loaded = loaded[wrapper]
        notes.append(f"read from {wrapper!r}")
    tensors = {key: value for key, value in loaded.items() if isinstance(value, Tensor)} if _is_dict(loaded) else {}
    if not tensors:
        raise DataError(f"{path} holds no weights: expected a dict of tensors, bare or under {', '.join(WRAPPERS)}.")
    if all(key.startswith(PREFIX) for key in tensors):
        tensors = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
        notes.append(f"prefix {PREFIX!r} removed")
    return tensors, notes


def _is_dict(loaded: Any) -> bool:
    return isinstance(loaded, dict) and all(isinstance(key, str) for key in loaded)
