"""Registers an operator with PyTorch: C++ where it runs, plain PyTorch elsewhere, shapes, a gradient, multiply-adds.

All operators are called alike: features, what is known or wanted beside them, then weights and settings, which are
stated once, as the fields of a dataclass.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Protocol, get_type_hints, runtime_checkable

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from metaformer.ops.arguments import Features
from metaformer.ops.native.library import NativeLibrary, native_library
from metaformer.ops.normalise import sample_moments

_NAMESPACE = "metaformer"
# One for all operators: they live as long as the process.
_LIBRARY = torch.library.Library(_NAMESPACE, "FRAGMENT")
_DTYPES = (torch.float32, torch.bfloat16)
_SCHEMA_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?", int: "int", float: "float", str: "str", bool: "bool"}


@runtime_checkable
class Arguments(Protocol):
    """Weights and settings of an operator as its C++ reads them; a frozen dataclass."""

    def plain(self, x: Tensor, moments: Tensor | None, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """The operator in PyTorch, for any device: what the C++ is tested against, and its gradient."""

    def native(
        self, library: NativeLibrary, x: Tensor, moments: Tensor | None, residual: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The operator in C++, in float32 and bfloat16."""

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """Multiply-adds for features of that shape."""


def register_operator(name: str, arguments: type[Any]) -> Any:
    """Adds `torch.ops.metaformer.<name>(x, moments, residual, *fields of the arguments)`, and returns it."""
    names = [field.name for field in fields(arguments)]
    hints = get_type_hints(arguments)
    stated = ", ".join(f"{_SCHEMA_TYPES[hints[field]]} {field}" for field in names)
    _LIBRARY.define(f"{name}(Tensor x, Tensor? moments, Tensor? residual, {stated}) -> (Tensor, Tensor)")

    def plain(x: Tensor, moments: Tensor | None, residual: Tensor | None, *values: Any) -> tuple[Tensor, Tensor]:
        made: Arguments = arguments(**dict(zip(names, values, strict=True)))
        return made.plain(x, moments, residual)

    def on_cpu(x: Tensor, moments: Tensor | None, residual: Tensor | None, *values: Any) -> tuple[Tensor, Tensor]:
        library = native_library() if x.dtype in _DTYPES else None
        made: Arguments = arguments(**dict(zip(names, values, strict=True)))
        return made.plain(x, moments, residual) if library is None else made.native(library, x, moments, residual)

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return _recomputed_gradients(plain, ctx.arguments, ctx.needs_input_grad, grads)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (named by PyTorch)
        ctx.arguments = inputs

    _LIBRARY.impl(name, plain, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, on_cpu, "CPU")
    torch.library.register_fake(f"{_NAMESPACE}::{name}", plain, lib=_LIBRARY)
    torch.library.register_autograd(f"{_NAMESPACE}::{name}", backward, setup_context=setup_context, lib=_LIBRARY)
    packet = getattr(torch.ops.metaformer, name)

    # PyTorch's own table of costs: whoever counts an aten operator counts ours.
    @register_flop_formula(packet, get_raw=True)
    def count(x: Tensor, _moments: Tensor | None, _residual: Tensor | None, *values: Any, **_out: Any) -> int:
        made: Arguments = arguments(**dict(zip(names, values, strict=True)))
        return 2 * made.macs(tuple(x.shape))

    return packet.default


def run_operator(
    operator: Callable[..., tuple[Tensor, Tensor]],
    arguments: Any,
    x: Tensor,
    moments: Tensor | None,
    residual: Tensor | None = None,
) -> Features:
    """Calls a registered operator; the moments that its norm reads are made where they are not known."""
    if getattr(arguments, "norm", None) != "sample":
        moments = None
    elif moments is None:
        moments = sample_moments(x)
    values = (getattr(arguments, field.name) for field in fields(arguments))
    y, y_moments = operator(x, moments, residual, *values)
    return y, y_moments if arguments.want_moments else None


def _recomputed_gradients(
    plain: Callable[..., Any], arguments: tuple[Any, ...], needed: tuple[bool, ...], grads: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """Gradients of the plain operator, computed again from the arguments: nothing else was kept.

    Raises:
        RuntimeError: They are to be differentiated again: what is computed here is cut off from the arguments.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("an optimized model has first derivatives only; differentiate the model it was made from.")
    with torch.enable_grad():
        fresh = [
            value.detach().requires_grad_(need) if isinstance(value, Tensor) else value
            for value, need in zip(arguments, needed, strict=True)
        ]
        results = plain(*fresh)
        wanted = [value for value, need in zip(fresh, needed, strict=True) if need]
        known = [(y, g) for y, g in zip(results, grads, strict=True) if g is not None and y.requires_grad]
        outputs, seeds = [y for y, _ in known], [g for _, g in known]
        found = iter(torch.autograd.grad(outputs, wanted, seeds, allow_unused=True))
    return tuple(next(found) if need else None for need in needed)


def channels_last(x: Tensor) -> Tensor:
    """The same features with the channels of a token together in memory, as every operator here reads them."""
    # A batch of one token or of one channel is both; the copy decides by strides, which the operators do not read.
    return x.contiguous(memory_format=torch.channels_last)


def no_moments(x: Tensor) -> Tensor:
    """What stands for the moments where nobody asked for them."""
    return torch.empty((0, 2), dtype=torch.float32, device=x.device)


def empty_moments(x: Tensor, wanted: bool) -> Tensor:
    """Room for the moments of a batch."""
    return torch.empty((x.shape[0] if wanted else 0, 2), dtype=torch.float32)
