"""The Triton kernels of an operator, where they work."""

import functools
import importlib
import importlib.util
import math
import warnings
from collections.abc import Callable, Hashable
from types import ModuleType
from typing import Any, TypeVar

import torch

from metaformer.core.errors import one_line

Launch = TypeVar("Launch", bound=tuple[int, ...])

_FASTEST: dict[Hashable, Any] = {}


@functools.cache
def triton_kernels(operator: str, device: torch.device) -> ModuleType | None:
    """`ops.<operator>.triton`, after its own `probe` has passed on the device; else None, and one warning.

    What a compiler and a GPU make of a kernel is known only once it has run there.
    """
    if importlib.util.find_spec("triton") is None:
        warnings.warn(f"Triton is not installed: {operator} runs in plain PyTorch on {device}.", stacklevel=2)
        return None
    try:
        module = importlib.import_module(f"metaformer.ops.{operator}.triton")
        module.probe(device)
    # Whatever a compiler or a GPU does wrong must cost the user no more than speed.
    except Exception as error:
        reason = one_line(error, 200)
        warnings.warn(f"the Triton kernels of {operator} do not work on {device}: {reason}", stacklevel=2)
        return None
    return module


def fastest_launch(
    launches: tuple[Launch, ...], case: Hashable, prepare: Callable[[], Callable[[Launch], object]]
) -> Launch:
    """The row of a kernel's launches that is fastest on this GPU, timed once a case.

    Args:
        launches: What there is to choose from.
        case: Operator, shapes, dtypes and device.
        prepare: Makes inputs and returns the call to be timed; not called where the case is known.
    """
    if case not in _FASTEST:
        import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]

        call = prepare()

        def milliseconds(launch: Launch) -> float:
            try:
                return float(triton.testing.do_bench(lambda: call(launch)))
            # A tile that is too large for this GPU.
            except triton.runtime.errors.OutOfResources:
                return math.inf

        _FASTEST[case] = min(launches, key=milliseconds)
    found: Launch = _FASTEST[case]
    return found
