"""What a tensor in a file of a stranger must be before anything is built from it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaformer.core.errors import DataError, shown
from metaformer.models.weights.inert import OddTensor

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2}
LONGEST_NAME = 300  # letters
OTHERS = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def check_tensors(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The same tensors, without gradients.

    Raises:
        DataError: One is of a kind that weights are not, or has more numbers than the file.
    """
    for name, tensor in state.items():
        # Names end up in messages and tables.
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise DataError(f"{path} cannot be weights: a tensor has the name {shown(name)}.")
        wrong = _wrong(tensor)
        if wrong:
            raise DataError(f"{path} cannot be weights: {name} is {wrong}. Save plain, dense, real tensors.")
    return {name: tensor.detach() for name, tensor in state.items()}


def _wrong(tensor: Any) -> str:
    """What a tensor is that it must not be; nothing where it is as weights are."""
    if isinstance(tensor, OddTensor):
        return tensor.name
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "without numbers (on the device 'meta')"
    if tensor.layout is not torch.strided:
        return "sparse"
    if tensor.dtype.is_complex:
        return "complex"
    if tensor.dtype not in FLOATS | OTHERS:
        return f"of the kind {str(tensor.dtype).removeprefix('torch.')}"
    if not tensor.numel():
        return f"empty ({describe_shape(tensor)})"
    held = tensor.untyped_storage().nbytes() // tensor.itemsize
    if tensor.numel() > held:
        return f"said to be {describe_shape(tensor)}, of which the file holds {held:,} numbers"
    return ""


def describe_shape(tensor: Tensor) -> str:
    """As 64x3x7x7."""
    return "x".join(str(side) for side in tensor.shape) or "a scalar"
