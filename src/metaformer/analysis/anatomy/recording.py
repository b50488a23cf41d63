"""Looks at what layers take in and put out while a model runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.analysis.anatomy.features import Layout, first_tensor, layout_of
from metaformer.analysis.anatomy.paths import find_module
from metaformer.core.errors import ConfigError

See = Callable[[str, Tensor, Layout], None]  # path, output, its layout


@contextmanager
def watching(model: nn.Module, paths: tuple[str, ...], see: See, image_size: tuple[int, ...]) -> Iterator[None]:
    """While the block runs, each output of these layers is seen, and may be forgotten at once.

    Raises:
        ConfigError: There is no such layer, or none of them ran.
    """
    num_seen = 0

    def look(path: str, module: nn.Module, _args: Any, out: Any) -> None:
        nonlocal num_seen
        num_seen += 1
        x = first_tensor(out)
        see(path, x, layout_of(path, module, x, image_size))

    with hooked({path: partial(look, path) for path in paths}, model):
        yield
    if paths and not num_seen:
        raise ConfigError(f"none of the layers {', '.join(paths[:3])} ran: the model does not use them.")


@contextmanager
def watching_inputs(model: nn.Module, sees: Mapping[str, Callable[[Tensor], None]]) -> Iterator[None]:
    """While the block runs, the first input of each of these layers is seen."""

    def look(see: Callable[[Tensor], None], _module: nn.Module, args: tuple[Any, ...]) -> None:
        see(first_tensor(args))

    handles = [find_module(model, path).register_forward_pre_hook(partial(look, see)) for path, see in sees.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hooked(hooks: Mapping[str, Callable[[nn.Module, Any, Any], Any]], model: nn.Module) -> Iterator[None]:
    """While the block runs, these forward hooks are on."""
    handles = [find_module(model, path).register_forward_hook(hook) for path, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def outputs_of(model: nn.Module, paths: tuple[str, ...], images: Tensor) -> dict[str, tuple[Tensor, Layout]]:
    """What layers put out for some images, and how it is laid out; kept, so for few images."""
    found: dict[str, tuple[Tensor, Layout]] = {}

    def see(path: str, x: Tensor, layout: Layout) -> None:
        found[path] = (x, layout)

    with watching(model, paths, see, tuple(images.shape[2:])):
        model(images)
    return found
