"""Registers an operator with PyTorch: C++ where it runs, plain PyTorch elsewhere, shapes, and a gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metaformer.ops.native.library import native_library

_NAMESPACE = "metaformer"
# One for all operators: they live as long as the process.
_LIBRARY = torch.library.Library(_NAMESPACE, "FRAGMENT")
_DTYPES = (torch.float32, torch.bfloat16)


def register_operator(schema: str, *, plain: Callable[..., Any], native: Callable[..., Any]) -> Any:
    """Adds `torch.ops.metaformer.<name>`; its first argument is a tensor of features.

    Args:
        schema: `name(Tensor x, ...) -> ...`, as torch.library wants it.
        plain: The operator in PyTorch, for any device; it is what the C++ is tested against, and its gradient.
        native: The operator in C++: takes the library, then the arguments; float32 and bfloat16.

    Returns:
        The operator, to be called.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)

    def on_cpu(*arguments: Any) -> Any:
        library = native_library() if arguments[0].dtype in _DTYPES else None
        return plain(*arguments) if library is None else native(library, *arguments)

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return _recomputed_gradients(plain, ctx.arguments, ctx.needs_input_grad, grads)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (named by PyTorch)
        ctx.arguments = inputs

    _LIBRARY.impl(name, plain, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, on_cpu, "CPU")
    torch.library.register_fake(f"{_NAMESPACE}::{name}", plain, lib=_LIBRARY)
    torch.library.register_autograd(f"{_NAMESPACE}::{name}", backward, setup_context=setup_context, lib=_LIBRARY)
    return getattr(torch.ops.metaformer, name).default


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
        results = results if isinstance(results, tuple) else (results,)
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
