"""An optimized model in a file: an exported program, with its weights as they were packed."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from metaformer.core.atomic_write import atomic_path
from metaformer.fast.candidates import Frozen


def save_program(model: nn.Module, example: Tensor, path: Path) -> None:
    """Writes what `optimize` returned, for inputs of the example's shape.

    A compiled model is written as what was compiled: compile it again where it is loaded. To load a program that uses
    our operators, `import metaformer.fast.backends` first, then `torch.export.load(path).module()`; weights that were
    packed on another kind of machine are read by the plain operators there.
    """
    plain = model.model if isinstance(model, Frozen) else model
    program = torch.export.export(plain, (example,))
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # Said of every weight whose channels lie together; it is written whole.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        # To an open file: of a path that does not end in .pt2, as the temporary one, PyTorch warns.
        with temporary.open("wb") as file:
            torch.export.save(program, file)
