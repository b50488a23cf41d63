"""How fused operators are computed: one table, operator -> plain, C++, Triton; one module that holds their weights.

A backend packs the arguments of an operator (`ops/*/reference.py`) as it reads them; what it packs has a method `run`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from metaformer.ops.arguments import Features
from metaformer.ops.depthwise.native import NativeDepthwise
from metaformer.ops.depthwise.plain import PlainDepthwise
from metaformer.ops.depthwise.reference import Depthwise
from metaformer.ops.native.library import NativeLibrary
from metaformer.ops.norm_convolution.native import NativeNormConvolution
from metaformer.ops.norm_convolution.plain import PlainNormConvolution
from metaformer.ops.norm_convolution.reference import NormConvolution
from metaformer.ops.norm_mlp.native import NativeNormMLP
from metaformer.ops.norm_mlp.plain import PlainNormMLP
from metaformer.ops.norm_mlp.reference import NormMLP
from metaformer.ops.norm_pool.native import NativeNormPool
from metaformer.ops.norm_pool.plain import PlainNormPool
from metaformer.ops.norm_pool.reference import NormPool

Operator = NormPool | NormMLP | NormConvolution | Depthwise


@runtime_checkable
class PackedArguments(Protocol):
    """What a backend made of an operator's arguments: a frozen dataclass."""

    def run(self, x: Tensor, moments: Tensor | None, residual: Tensor | None = None) -> Features:
        """The operator; the moments of the result where they cost nothing more."""


# Arguments as packed, given whether the moments of the result are wanted; None: the backend has no such kernel.
Pack = Callable[[Any, bool], PackedArguments | None]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A column of the table."""

    table: Mapping[type[Any], Pack]
    otherwise: "Backend | None" = None  # for what it has no kernel for

    def build(self, op: Operator, *, want_moments: bool = False) -> "PackedOperator":
        """The operator as a module; `want_moments` asks for the moments of what comes out."""
        pack = self.table.get(type(op))
        packed = None if pack is None else pack(op, want_moments)
        if packed is not None:
            return PackedOperator(packed)
        assert self.otherwise is not None
        return self.otherwise.build(op, want_moments=want_moments)


def plain_backend(dtype: torch.dtype, *, sliced_pooling: bool) -> Backend:
    """PyTorch's own operators, for features in a dtype.

    Args:
        dtype: Of weights and features.
        sliced_pooling: Pooling as shifted sums, which a compiler fuses with what surrounds it; else one library call.
    """
    return Backend(
        table={
            NormPool: lambda op, _: PlainNormPool.pack(op, dtype, sliced=sliced_pooling),
            NormMLP: lambda op, _: PlainNormMLP.pack(op, dtype),
            NormConvolution: lambda op, _: PlainNormConvolution.pack(op, dtype),
            Depthwise: lambda op, _: PlainDepthwise.pack(op, dtype),
        }
    )


def native_backend(library: NativeLibrary) -> Backend:
    """Our C++ operators: weights in float32, features stored in their own dtype."""
    return Backend(
        table={
            NormPool: lambda op, want: NativeNormPool.pack(op, want_moments=want),
            NormMLP: lambda op, want: NativeNormMLP.pack(op, library, want_moments=want),
            NormConvolution: lambda op, want: NativeNormConvolution.pack(op, library, want_moments=want),
            Depthwise: lambda op, _: NativeDepthwise.pack(op, library),
        }
    )


def triton_backend(dtype: torch.dtype) -> Backend:
    """Our Triton kernels for both halves of a PoolFormer block, PyTorch for the rest."""
    from metaformer.ops.norm_mlp.triton import TritonNormMLP
    from metaformer.ops.norm_pool.triton import TritonNormPool

    return Backend(
        table={
            NormPool: lambda op, _: TritonNormPool.pack(op),
            NormMLP: lambda op, _: TritonNormMLP.pack(op, dtype),
        },
        otherwise=plain_backend(dtype, sliced_pooling=False),
    )


class PackedOperator(nn.Module):
    """Packed arguments as a module: their weights are its buffers, each in the dtype that the backend chose.

    `.to(dtype)` moves them and casts nothing.
    """

    def __init__(self, packed: PackedArguments) -> None:
        super().__init__()
        self.kind: Any = type(packed)
        self.settings: dict[str, Any] = {}
        self.weights: list[str] = []
        for field in fields(packed):  # type: ignore[arg-type]
            value = getattr(packed, field.name)
            if value is None or isinstance(value, Tensor):
                self.register_buffer(field.name, value)
                self.weights.append(field.name)
            else:
                self.settings[field.name] = value

    @property
    def packed(self) -> PackedArguments:
        """The arguments, where the weights are now."""
        made: PackedArguments = self.kind(**{name: getattr(self, name) for name in self.weights}, **self.settings)
        return made

    def forward(self, x: Tensor, moments: Tensor | None = None, residual: Tensor | None = None) -> Features:
        return self.packed.run(x, moments, residual)

    def extra_repr(self) -> str:
        return f"{self.kind.__name__}, " + ", ".join(f"{name}={value}" for name, value in self.settings.items())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedOperator":
        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)


@torch.no_grad()
def choose_launches(model: nn.Module, example: Tensor) -> None:
    """Times how each GPU kernel of the model is launched best, for features as the example makes them; once, in place.

    A model without such kernels stays as it is.
    """

    def choose(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, PackedOperator)
        packed: Any = module.packed
        module.settings["launch"] = packed.fastest_launch(inputs[0])

    tunable = [
        module for module in model.modules() if isinstance(module, PackedOperator) and "launch" in module.settings
    ]
    hooks = [module.register_forward_pre_hook(choose) for module in tunable]
    try:
        if hooks:
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
