"""The Triton kernels of an operator, where they work."""

import functools
import importlib
import importlib.util
import warnings
from types import ModuleType

import torch


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
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"the Triton kernels of {operator} do not work on {device}: {reason}", stacklevel=2)
        return None
    return module
