"""The compiled operators as Python functions: found once, or explained once."""

import ctypes
import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaformer.core.errors import ShapeError, one_line
from metaformer.ops.native.build import BuildError, built_library

# The numbers of the kinds in activation.h and rows.h.
ACTIVATION_KINDS = {"none": 0, "gelu": 1, "relu": 2, "silu": 3, "squared_relu": 4}
NORM_KINDS = {"none": 0, "sample": 1, "token": 2}

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
_SIGNATURES = {
    "mf_norm_pool": [_INT, *(_POINTER,) * 4, _INT, _POINTER, _FLOAT, _POINTER, *(_LONG,) * 5, _INT],
    "mf_norm_mlp": [
        *(_INT, *(_POINTER,) * 6, _INT, _POINTER, _FLOAT, *(_POINTER,) * 4, *(_LONG,) * 5, _INT, _INT),
    ],
    "mf_norm_mlp_backward": [_POINTER, _POINTER, _POINTER, _FLOAT, *(_POINTER,) * 12, *(_LONG,) * 5, _INT, _INT],
    "mf_convolution": [
        *(_INT, *(_POINTER,) * 5, _INT, _POINTER, _FLOAT, *(_POINTER,) * 4, _FLOAT),
        *(_POINTER, _POINTER, _INT, _FLOAT, _FLOAT, _INT),
    ],
    "mf_depthwise": [_INT, *(_POINTER,) * 4, *(_LONG,) * 5, _INT],
}


@dataclass(frozen=True)
class NativeLibrary:
    """The C functions, and what decides how weights are laid out for them."""

    functions: Any  # a ctypes library
    tile_columns: int  # columns of a panel of a matrix
    lanes: int  # floats of a vector


@cache
def library_or_reason() -> NativeLibrary | str:
    """The compiled operators, or why there are none on this machine."""
    try:
        try:
            return _opened(built_library())
        # Whole, and yet no library of ours, or one for another machine.
        except (OSError, AttributeError):
            return _opened(built_library(again=True))
    except (BuildError, OSError, AttributeError) as error:
        return one_line(error)


def _opened(path: Path) -> NativeLibrary:
    functions = ctypes.CDLL(str(path))
    for name, arguments in _SIGNATURES.items():
        function = getattr(functions, name)
        function.argtypes, function.restype = arguments, None
    return NativeLibrary(functions, functions.mf_tile_columns(), functions.mf_lanes())


def measured_peak(seconds: float = 1.0) -> float | None:
    """The multiply-add peak of PyTorch's threads in GFLOP/s, the best of many tries; None without the operators.

    Args:
        seconds: How long it is tried: for the first tenth of a second all threads may still sit on one core.
    """
    found = library_or_reason()
    if isinstance(found, str):
        return None
    peak, sink = found.functions.mf_peak, ctypes.c_float()
    peak.argtypes, peak.restype = [_LONG, _INT, _POINTER], ctypes.c_double
    best, started = 0.0, time.perf_counter()
    while best == 0 or time.perf_counter() - started < seconds:
        best = max(best, peak(3_000_000, torch.get_num_threads(), ctypes.addressof(sink)))
    return best


@cache
def native_library() -> NativeLibrary | None:
    """The compiled operators; None, with one warning, where they cannot be compiled."""
    found = library_or_reason()
    if isinstance(found, str):
        warnings.warn(f"metaformer's C++ operators are not used: {found}. PyTorch's take their place.", stacklevel=2)
        return None
    return found


def address(weight: Tensor | None, floats: int, what: str) -> int | None:
    """Where a tensor's numbers lie, for C++ that trusts them; null for None.

    Give it a tensor that has a name: the numbers of a passing value are gone before the call.

    Raises:
        ShapeError: It is not what the C++ would read.
    """
    if weight is None:
        return None
    if weight.dtype != torch.float32 or weight.numel() != floats or not weight.is_contiguous():
        raise ShapeError(
            f"{what} must be {floats} contiguous float32 numbers; got shape {tuple(weight.shape)}, {weight.dtype}. "
            "An optimized model keeps its weights in float32: ask optimize() for another dtype, and do not cast it."
        )
    return weight.data_ptr()


def moments_address(moments: Tensor | None, norm: str, batch: int) -> int | None:
    """Where the moments lie that a norm of this kind reads; null for a norm that reads none.

    Raises:
        ShapeError: They are missing, or not one pair of float32 numbers a sample.
    """
    if norm != "sample":
        return None
    if moments is None:
        raise ShapeError("norm 'sample' needs the mean and variance of each sample; got moments=None.")
    return address(moments, 2 * batch, "moments")
