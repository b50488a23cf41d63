"""Rebuild the weights and the input image that the parity fixtures were frozen with.

Everything is a closed formula of the key name and the element index: no random
number generator, no network, no file. Only numpy and torch are needed.
"""

import zlib
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Entry(TypedDict):
    """What a fixture stores per key: the tensor's shape and the name of its rule."""

    shape: list[int]
    rule: str


def wave(key: str, size: int) -> NDArray[np.float64]:
    """Return the base sequence of one key: `size` values in [-1, 1], mean about 0.

    The second factor has a quadratic phase. Without it a matrix filled row by
    row would have rank 4 and most of a model would go untested.
    """
    phase = (zlib.crc32(key.encode()) % 10007) * 0.001
    index = np.arange(size, dtype=np.int64)
    carrier = np.sin(index * 0.7310585 + phase)
    chirp = np.sin((index * index % 1000003) * 0.0123456789 + 2.0 * phase + 0.5)
    return np.asarray(carrier * chirp, dtype=np.float64)


def tensor(key: str, entry: Entry, gain: float = 1.0) -> Tensor:
    """Return the float32 tensor of one key; `gain` multiplies the rule `matrix` only."""
    shape, rule = tuple(entry["shape"]), entry["rule"]
    value = wave(key, int(np.prod(shape, dtype=np.int64))).reshape(shape)
    if rule in ("matrix", "classifier"):
        fan_in = value.size / shape[0]
        scale = gain if rule == "matrix" else 1.0
        value = scale * np.sqrt(3.0 / fan_in) * value
    elif rule in ("norm_weight", "scale"):
        value = 1.0 + 0.2 * value
    elif rule == "layer_scale":
        value = 0.5 + 0.2 * value
    elif rule == "bias":
        value = 0.1 * value
    elif rule == "pos_embed":
        value = 0.2 * value
    elif rule == "random_matrix":
        weight = np.exp(2.0 * value)
        value = weight / weight.sum(axis=-1, keepdims=True)
    else:
        raise ValueError(f"unknown rule {rule!r} for key {key!r}")
    return torch.from_numpy(value.astype(np.float32))


def state_dict(keys: Mapping[str, Entry], gain: float = 1.0) -> dict[str, Tensor]:
    """Return the state dict of a fixture's `keys`, in sorted key order."""
    return {key: tensor(key, keys[key], gain) for key in sorted(keys)}


def image(height: int, width: int) -> Tensor:
    """Return the float32 input batch of shape (2, 3, height, width)."""
    c = np.arange(3, dtype=np.float64)[:, None, None]
    h = np.arange(height, dtype=np.float64)[None, :, None]
    w = np.arange(width, dtype=np.float64)[None, None, :]
    first = np.sin(0.05 * h + c) + np.cos(0.07 * w - c) + 0.5 * np.sin(0.011 * h * w)
    return torch.from_numpy(np.stack([first, 0.3 - first]).astype(np.float32))
