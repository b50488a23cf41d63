"""An unpickler that imports nothing and calls nothing that a file names: it builds tensors and plain containers.

What stands for everything else is an `Inert`, which holds what the file said about the object and does nothing.
"""

import pickle
import re
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from metaformer.core.errors import DataError

# Nothing that belongs beside weights: whoever put it there wants code to run.
ATTACKS = re.compile(
    r"(os|posix|nt|sys|subprocess|runpy|importlib|pty|ctypes|shutil|socket|code|webbrowser|pickle|_pickle|marshal|pdb|"
    r"timeit|cProfile|bdb|asyncio|multiprocessing|http|urllib|requests)(\..*)?"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|__import__|input|breakpoint|globals|vars|delattr|setattr)"
)
# What other kinds of tensors are rebuilt by -> what they are.
ODD_TENSORS = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_qtensor": "quantised",
    "_rebuild_meta_tensor_no_storage": "without numbers (on the device 'meta')",
    "_rebuild_nested_tensor": "nested",
}


PYTHONS_OWN: Any = pickle._Unpickler


class Inert:
    """Stands for an object of a class that a file names and that is not built."""

    name = "an object"  # of its class

    def __new__(cls, *_args: Any, **_options: Any) -> "Inert":
        return object.__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args: tuple[Any, ...] = (*args, *options.values())
        self.state: Any = None
        self.entries: dict[Any, Any] = {}  # of a kind of dict

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, item: Any) -> None:
        """Items of a kind of list are not needed."""

    extend = add = append


class OddTensor(Inert):
    """A tensor of a kind that weights are not; its `name` is the kind."""


class InertUnpickler(PYTHONS_OWN):
    """Python's own unpickler, with every way to a call closed.

    The one written in Python: only there can the setting of an object's state be closed too.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(PYTHONS_OWN.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """What a name in a file stands for.

        Raises:
            DataError: It is there to run code.
        """
        full = f"{module}.{name}"
        if full in BUILDERS:
            return BUILDERS[full]
        if ATTACKS.fullmatch(full):
            raise DataError(
                f"it holds more than plain tensors: {full}, which is there to run code. Nothing was run; do not open "
                "this file with anything else"
            )
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        if full in ("torch.UntypedStorage", "torch.storage.UntypedStorage"):
            return torch.UntypedStorage
        if module == "torch._utils" and name.startswith("_rebuild"):
            return type("OddTensor", (OddTensor,), {"name": ODD_TENSORS.get(name, f"of a kind of its own ({name})")})
        return type("Inert", (Inert,), {"name": full})

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], arguments)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], arguments)

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_newobj()

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _instantiate(self, known: Any, arguments: Any) -> None:
        self.append(_call(known, tuple(arguments)))

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state

    dispatch[pickle.BUILD[0]] = load_build


def _call(known: Any, arguments: Any) -> Any:
    """An object that a file asks for: built by one of BUILDERS, or inert."""
    if isinstance(known, type) and issubclass(known, Inert):
        return known(*arguments)
    return known(*arguments) if known in BUILDERS.values() else Inert(*arguments)


def _ordered_dict(*entries: Any) -> dict[Any, Any]:
    return OrderedDict(*(one for one in entries if isinstance(one, list | dict)))


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: Any) -> Any:
    return _view(storage, storage.dtype, offset, size, stride)


def _tensor_of_dtype(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any) -> Any:
    _requires_grad, _hooks, dtype = rest[:3]
    return _view(storage, dtype, offset, size, stride)


def _view(storage: Any, dtype: torch.dtype, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    """Numbers of a storage as a tensor; PyTorch itself would make a storage larger that has too few."""
    untyped = storage if isinstance(storage, torch.UntypedStorage) else storage._untyped_storage
    needed = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) + 1 if all(size) else 0
    if min((offset, *size, *stride)) < 0 or needed * dtype.itemsize > untyped.nbytes():
        return type("OddTensor", (OddTensor,), {"name": "cut off: the file holds fewer numbers than it says"})()
    return torch.empty((0,), dtype=dtype).set_(untyped, offset, tuple(size), tuple(stride))


def _first(tensor: Any, *_rest: Any) -> Any:
    return tensor


def _of_type(build: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    return _call(build, arguments)


BUILDERS: dict[str, Any] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_type,
}


def _load(file: Any, **options: Any) -> Any:
    return InertUnpickler(file, **options).load()


# In the shape of the module `pickle`, for torch.load.
INERT_PICKLE: Any = SimpleNamespace(Unpickler=InertUnpickler, load=_load, __name__="inert")


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor, of whatever kind."""
    return isinstance(value, Tensor | OddTensor)
