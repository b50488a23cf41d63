"""The ways to run a model that `optimize` chooses from: one function each, and one table."""

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.core.compiling import Options, compile_alone, compiler_names, cpp_compiler
from metaformer.fast.backends import native_backend, plain_backend, triton_backend
from metaformer.fast.contest import NotHereError
from metaformer.fast.stage import folded
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.native.library import library_or_reason

# Said with each compilation, never as a setting of the process.
COMPILE_OPTIONS: Options = {"freezing": True}


class Wrapped(nn.Module):
    """A module around a model, whose other attributes it has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)


class InDtype(Wrapped):
    """Runs a model in a dtype of its own; takes and gives the dtype of the caller."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(model)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.to(self.dtype)).to(x.dtype)


class Frozen(Wrapped):
    """A compiled model for evaluation: the compiler freezes weights only where no gradients are recorded.

    They still are for images that ask for them. Each shape of the input is compiled by itself.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._compiled is None:
            self._compiled = compile_alone(self.model, COMPILE_OPTIONS)
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            return self._compiled(x)

    def __getstate__(self) -> dict[str, Any]:
        # What was compiled belongs to this process.
        return vars(self) | {"_compiled": None}


def original(model: MetaFormer, dtype: torch.dtype) -> nn.Module:  # noqa: ARG001 (as all candidates)
    """The model as it is, in its own dtype."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def original_cast(model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """The model as it is, in another dtype."""
    if next(model.parameters()).dtype == dtype:
        raise NotHereError("the same as original")
    return _in_dtype(original(model, dtype).to(dtype), model, dtype)


def original_compiled(model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """The model as it is, compiled with frozen weights."""
    _require_compiler(model)
    return Frozen(_in_dtype(original(model, dtype).to(dtype), model, dtype))


def folded_eager(model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """Folded, in PyTorch."""
    return _in_dtype(_folded_plain(model, dtype, sliced_pooling=False), model, dtype)


def folded_compiled(model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """Folded, compiled with frozen weights."""
    _require_compiler(model)
    return Frozen(_in_dtype(_folded_plain(model, dtype, sliced_pooling=True), model, dtype))


def native(model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """Folded, by our C++ operators, features stored in the dtype."""
    if dtype not in (torch.float32, torch.bfloat16):
        raise NotHereError(f"the C++ operators store float32 and bfloat16, not {dtype}")
    return _in_dtype(_folded_native(model).to(dtype), model, dtype)


def native_in_float32(model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """Folded, by our C++ operators, all in float32: for processors that are no faster at less."""
    if dtype == torch.float32:
        raise NotHereError("the same as native")
    if dtype == torch.float64:
        raise NotHereError("float32 inside is less than float64")
    return _in_dtype(_folded_native(model), model, torch.float32)


def on_gpu(model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """Folded, by our Triton kernels."""
    if _device(model).type != "cuda":
        raise NotHereError(f"the Triton kernels run on a GPU; the model is on {_device(model)}")
    if dtype == torch.float64:
        raise NotHereError("the Triton kernels compute in float32")
    if importlib.util.find_spec("triton") is None:
        raise NotHereError("Triton is not installed")
    return _in_dtype(folded(_wide(model), triton_backend(dtype)).to(dtype), model, dtype)


# The name in the trial's table -> how the model is made. The first is what all others are compared with.
CANDIDATES: dict[str, Callable[[MetaFormer, torch.dtype], nn.Module]] = {
    "original": original,
    "original, cast": original_cast,
    "original, compiled": original_compiled,
    "folded": folded_eager,
    "folded, compiled": folded_compiled,
    "native": native,
    "native, float32 inside": native_in_float32,
    "Triton": on_gpu,
}


def _require_compiler(model: MetaFormer) -> None:
    if _device(model).type == "cpu" and cpp_compiler() is None:
        raise NotHereError(f"torch.compile needs a C++ compiler; not on the PATH: {', '.join(compiler_names())}")


def _folded_plain(model: MetaFormer, dtype: torch.dtype, *, sliced_pooling: bool) -> nn.Module:
    return folded(_wide(model), plain_backend(dtype, sliced_pooling=sliced_pooling)).to(dtype)


def _folded_native(model: MetaFormer) -> MetaFormer:
    if _device(model).type != "cpu":
        raise NotHereError(f"the C++ operators run on the CPU; the model is on {_device(model)}")
    library = library_or_reason()
    if isinstance(library, str):
        raise NotHereError(library)
    return folded(_wide(model), native_backend(library))


def _wide(model: MetaFormer) -> MetaFormer:
    """A copy with weights to be folded: in float32, or in float64 if the model is."""
    return copy.deepcopy(model).to(torch.promote_types(next(model.parameters()).dtype, torch.float32))


def _in_dtype(made: nn.Module, model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """The model itself where callers pass that dtype anyway: it keeps the interface of a MetaFormer."""
    return made if next(model.parameters()).dtype == dtype else InDtype(made, dtype).eval()


def _device(model: MetaFormer) -> torch.device:
    return next(model.parameters()).device
