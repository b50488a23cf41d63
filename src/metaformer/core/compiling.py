"""The C++ compiler of this machine, and torch.compile."""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, cast

from torch import nn

COMPILERS = ("cl",) if sys.platform == "win32" else ("c++", "g++", "clang++")

Options = dict[str, str | int | bool | Callable[..., Any]]


def cpp_compiler() -> str | None:
    """Where the C++ compiler is: the one that CXX names, else the first on the PATH; None if there is none."""
    return next((path for name in compiler_names() if (path := shutil.which(name))), None)


def compiler_names() -> tuple[str, ...]:
    """What is looked for, to be named in a message."""
    return (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS


def compile_module(module: nn.Module, options: Options | None = None) -> nn.Module:
    """The module as `torch.compile` makes it; parameters are shared.

    Args:
        module: Any module.
        options: Of this compilation alone, never of the process.
    """
    # Its import warns of a CUDA toolkit without a GPU, which is no concern of somebody who compiles for the CPU.
    noisy = logging.getLogger("torch.utils.cpp_extension")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        import torch.utils.cpp_extension
    finally:
        noisy.setLevel(level)
    return cast(nn.Module, torch.compile(module, options=options))
