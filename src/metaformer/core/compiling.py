"""The C++ compiler of this machine, and torch.compile."""

import logging
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import nn

COMPILERS = ("cl",) if sys.platform == "win32" else ("c++", "g++", "clang++")

Options = dict[str, str | int | bool | Callable[..., Any]]


def cpp_compiler() -> str | None:
    """Where the C++ compiler is: the one that CXX names, else the first on the PATH; None if there is none."""
    return next((path for name in compiler_names() if (path := shutil.which(name))), None)


def compiler_names() -> tuple[str, ...]:
    """What is looked for, to be named in a message."""
    return (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS


@cache
def compiler_version() -> str | None:
    """What the C++ compiler says of itself; None if there is none, or it says nothing."""
    compiler = cpp_compiler()
    if compiler is None:
        return None
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.partition("\n")[0].strip() or None


def compile_alone(module: nn.Module, options: Options | None = None) -> Callable[..., Any]:
    """The module as compiled for each shape of its input by itself, whatever else this process compiled.

    PyTorch remembers by code, not by module: the second model of a class would be compiled for shapes that vary, and
    the ninth not at all. So this one gets code of its own.
    """

    def call(*inputs: Any) -> Any:
        return module(*inputs)

    own = types.FunctionType(call.__code__.replace(), call.__globals__, "call", None, call.__closure__)
    with _quiet_extensions():
        return torch.compile(own, dynamic=False, options=options)


def compile_module(module: nn.Module, options: Options | None = None) -> nn.Module:
    """The module as `torch.compile` makes it; parameters are shared.

    Args:
        module: Any module.
        options: Of this compilation alone, never of the process.
    """
    with _quiet_extensions():
        return cast(nn.Module, torch.compile(module, options=options))


@contextmanager
def _quiet_extensions() -> Iterator[None]:
    # Its import warns of a CUDA toolkit without a GPU, which is no concern of somebody who compiles for the CPU.
    noisy = logging.getLogger("torch.utils.cpp_extension")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        pass
    finally:
        noisy.setLevel(level)
    yield
