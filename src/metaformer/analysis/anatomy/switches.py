"""Switches the branches of blocks off in any model, by hooks: nothing of the model is changed."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.analysis.anatomy.blocks import Block
from metaformer.analysis.anatomy.features import first_tensor
from metaformer.analysis.anatomy.paths import find_module
from metaformer.analysis.anatomy.recording import hooked, outputs_of, watching_inputs
from metaformer.core.errors import ConfigError


@contextmanager
def without_residual(model: nn.Module, blocks: Sequence[Block]) -> Iterator[None]:
    """While the block runs, the residual connection around the token mixer of these blocks is off.

    The block is given zeros, and only its branch the true input: exactly f(x) is left of x + f(x), where f(x) taken
    from their sum would lose all digits once f(x) is small. A sample's output is then scaled to the size of its input
    by one number: the LayerScale of a residual connection would leave so little that biases drown it.
    """
    handles = []
    for block in blocks:
        inputs: list[Tensor] = []
        sizes: list[Tensor] = []

        def hide(
            _module: nn.Module, args: tuple[Any, ...], inputs: list[Tensor] = inputs, sizes: list[Tensor] = sizes
        ) -> tuple[Any, ...]:
            inputs.append(args[0])
            sizes.append(_size(args[0]))
            return (torch.zeros_like(args[0]), *args[1:])

        def resize(_module: nn.Module, _args: Any, out: Tensor, sizes: list[Tensor] = sizes) -> Tensor:
            size, wanted = _size(out), sizes.pop()
            return out * torch.where(size > 0, wanted / size, 1.0)

        def give(_module: nn.Module, args: tuple[Any, ...], inputs: list[Tensor] = inputs) -> tuple[Any, ...]:
            return (inputs.pop(), *args[1:])

        handles.append(find_module(model, block.path).register_forward_pre_hook(hide))
        handles.append(find_module(model, block.path).register_forward_hook(resize))
        handles.append(find_module(model, block.part(block.form.entry)).register_forward_pre_hook(give))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _size(x: Tensor) -> Tensor:
    """The root mean square of each sample, to be broadcast over it."""
    return x.square().mean(dim=tuple(range(1, x.ndim)), keepdim=True).sqrt()


@contextmanager
def without_mlp(model: nn.Module, blocks: Sequence[Block]) -> Iterator[None]:
    """While the block runs, the channel MLP of these blocks adds nothing to the residual.

    Raises:
        ConfigError: The blocks have no channel MLP.
    """
    if not all(block.form.mlp for block in blocks):
        raise ConfigError(f"the blocks of {type(model).__name__} have no channel MLP that could be switched off.")
    with hooked({block.part(block.form.mlp): _put_out_zeros for block in blocks}, model):
        yield


def _put_out_zeros(_module: nn.Module, _args: Any, out: Any) -> Tensor:
    return torch.zeros_like(first_tensor(out))


@contextmanager
def adding_input(model: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """While the block runs, these layers put out what they do plus their input."""

    def add(_module: nn.Module, args: tuple[Any, ...], out: Any) -> Tensor:
        return first_tensor(out) + first_tensor(args)

    with ExitStack() as stack:
        stack.enter_context(hooked(dict.fromkeys(paths, add), model))
        yield


@torch.no_grad()
def subtracting_mixers(model: nn.Module, blocks: Sequence[Block], images: Tensor) -> tuple[str, ...]:
    """The token mixers that take their input away from what they put out, as pooling does.

    Such a mixer makes nothing of a map that is the same everywhere, and something of others.
    """
    paths = tuple(block.mixer for block in blocks)
    seen: dict[str, Tensor] = {}
    with watching_inputs(model, {path: partial(seen.__setitem__, path) for path in paths}):
        outputs = outputs_of(model, paths, images[:1])
    found = []
    for path in paths:
        if path not in seen or outputs[path][0].shape != seen[path].shape:
            continue
        out = first_tensor(find_module(model, path)(torch.ones_like(seen[path])))
        scale = outputs[path][0].abs().max()
        if scale > 0 and out.abs().max() < 1e-5 * min(1.0, float(scale)):
            found.append(path)
    return tuple(found)
