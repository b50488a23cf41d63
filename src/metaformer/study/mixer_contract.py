"""What every token mixer promises, checked one by one; a promise that is broken comes with the failing example."""

import copy
import pickle
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from metaformer.block.site import Grid, Site
from metaformer.block.token_mixers import TokenMixerConfig
from metaformer.core.compiling import compile_module
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ShapeError
from metaformer.core.records import Check

GRIDS: tuple[Grid, ...] = ((8, 8), (7, 7), (5, 9), (1, 4))  # even, odd, oblong, thin
DIM = 64
TOLERANCE = 1e-4  # of float32 results that may take another path


class BrokenPromiseError(Exception):
    """A check failed; says with what."""


class NoteError(Exception):
    """A check found something that is allowed, and worth knowing."""


def check_contract(config: TokenMixerConfig, *, with_compile: bool = False) -> Iterator[Check]:
    """Checks a mixer promise by promise, one at a time; nothing that it raises gets through.

    Args:
        config: Of the mixer.
        with_compile: Compile it too, which takes a minute and a C++ compiler.
    """
    checks = CHECKS | ({"compile": ("gives the same under torch.compile", _compile)} if with_compile else {})
    for id, (name, check) in checks.items():
        torch.manual_seed(0)
        try:
            check(config)
        except BrokenPromiseError as broken:
            yield Check(id=id, name=name, status="fail", detail=str(broken))
        except NoteError as note:
            yield Check(id=id, name=name, status="note", detail=str(note))
        # A stranger's code may raise anything.
        except Exception as error:
            lines = str(error).strip().splitlines()
            yield Check(id=id, name=name, status="fail", detail=f"{type(error).__name__}: {lines[0] if lines else ''}")
        else:
            yield Check(id=id, name=name, status="pass")


def _build(config: TokenMixerConfig, grid: Grid = GRIDS[0]) -> nn.Module:
    return config.build(Site(DIM, grid, 0, 0))


def _input(grid: Grid = GRIDS[0], batch: int = 2) -> Tensor:
    return torch.randn(batch, DIM, *grid)


def _same(actual: Tensor, expected: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    if actual.shape != expected.shape:
        raise BrokenPromiseError(f"{what}: shape {tuple(actual.shape)} and {tuple(expected.shape)}")
    actual, expected = actual.detach(), expected.detach()
    difference = float((actual - expected).abs().max())
    if not difference <= tolerance * max(1.0, float(expected.abs().max())):
        raise BrokenPromiseError(f"{what}: results differ by up to {difference:.3g}, input {tuple(expected.shape)}")


def _config(config: TokenMixerConfig) -> None:
    values = to_dict(config)
    if from_dict(type(config), values) != config:
        raise BrokenPromiseError(f"the config written as {values} comes back as another one")
    if pickle.loads(pickle.dumps(config)) != config:
        raise BrokenPromiseError("the config does not survive pickle, so no run can get it")


def _shape(config: TokenMixerConfig) -> None:
    for grid in GRIDS:
        x = _input(grid)
        y = _build(config, grid)(x)
        if y.shape != x.shape:
            raise BrokenPromiseError(f"{tuple(x.shape)} becomes {tuple(y.shape)}")
        if not torch.isfinite(y).all():
            raise BrokenPromiseError(f"numbers that are not finite, from an input of shape {tuple(x.shape)}")


def _any_grid(config: TokenMixerConfig) -> None:
    module = _build(config, GRIDS[0]).eval()
    for grid in GRIDS[1:]:
        x = _input(grid)
        try:
            y = module(x)
        except ShapeError:
            raise NoteError("tied to the grid that it is built for, and says so") from None
        if y.shape != x.shape:
            raise BrokenPromiseError(f"built for {GRIDS[0]}: {tuple(x.shape)} becomes {tuple(y.shape)}")


def _gradients(config: TokenMixerConfig) -> None:
    module, x = _build(config).train(), _input().requires_grad_()
    module(x).square().sum().backward()
    _check_gradient(x.grad, "the input")
    for name, parameter in module.named_parameters():
        _check_gradient(parameter.grad, f"parameter {name}")


def _check_gradient(gradient: Tensor | None, what: str) -> None:
    if gradient is None:
        raise BrokenPromiseError(f"{what} gets no gradient")
    if not torch.isfinite(gradient).all():
        raise BrokenPromiseError(f"the gradient of {what} is not finite")
    if not gradient.any():
        raise BrokenPromiseError(f"the gradient of {what} is zero everywhere")


def _deterministic(config: TokenMixerConfig) -> None:
    module, x = _build(config), _input()
    for mode in (False, True):
        module.train(mode)
        results = []
        for _ in range(2):
            torch.manual_seed(1)
            results.append(copy.deepcopy(module)(x))
        _same(results[1], results[0], "two calls in " + ("training" if mode else "evaluation"), 0.0)


def _first_weights(config: TokenMixerConfig) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(_build(config).state_dict())
    for name, tensor in states[0].items():
        _same(states[1][name].float(), tensor.float(), f"first weights {name} by the same seed", 0.0)


def _batch(config: TokenMixerConfig) -> None:
    module, x = _build(config).eval(), _input(batch=3)
    together = module(x)
    for index in range(3):
        _same(module(x[index : index + 1]), together[index : index + 1], f"sample {index} alone and in its batch")


def _channels_last(config: TokenMixerConfig) -> None:
    # Oblong: mixed up, height and width would show. Built for it, so that a mixer tied to its grid can run.
    module, x = _build(config, (5, 9)).eval(), _input((5, 9))
    expected = module(x)
    other = copy.deepcopy(module).to(memory_format=torch.channels_last)
    _same(other(x.contiguous(memory_format=torch.channels_last)), expected, "channels_last")


def _float64(config: TokenMixerConfig) -> None:
    module, x = _build(config).eval(), _input()
    expected = module(x)
    exact = copy.deepcopy(module).double()(x.double())
    if exact.dtype != torch.float64:
        raise BrokenPromiseError(f"float64 in, {str(exact.dtype).removeprefix('torch.')} out")
    _same(exact.float(), expected, "float64")


def _export(config: TokenMixerConfig) -> None:
    module, x = _build(config).eval(), _input()
    exported = torch.export.export(module, (x,)).module()
    _same(exported(x), module(x), "exported")


def _state(config: TokenMixerConfig) -> None:
    torch.manual_seed(1)
    module = _build(config).eval()
    torch.manual_seed(2)
    other = _build(config).eval()
    other.load_state_dict(module.state_dict())
    x = _input()
    _same(other(x), module(x), "another module with the same state dict", 0.0)


def _compile(config: TokenMixerConfig) -> None:
    module, x = _build(config).eval(), _input()
    _same(compile_module(module)(x), module(x), "compiled")


CHECKS: dict[str, tuple[str, Callable[[TokenMixerConfig], None]]] = {
    "config": ("the config comes back from JSON and from pickle", _config),
    "shape": ("keeps the shape on even, odd, oblong and thin grids", _shape),
    "any_grid": ("takes any grid, or says that it cannot", _any_grid),
    "gradients": ("gradients reach the input and every parameter", _gradients),
    "deterministic": ("the same input gives the same output", _deterministic),
    "first_weights": ("the same seed gives the same first weights", _first_weights),
    "batch": ("samples of a batch do not see each other", _batch),
    "channels_last": ("gives the same in channels_last", _channels_last),
    "float64": ("runs in float64", _float64),
    "export": ("can be exported by torch.export", _export),
    "state": ("its state dict holds all that decides its output", _state),
}
# Without these a mixer cannot be trained; by the check's id.
REQUIRED = {
    "config": "The mixer's config cannot be written down and read again",
    "shape": "The mixer does not keep the shape",
}
