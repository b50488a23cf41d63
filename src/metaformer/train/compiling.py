"""torch.compile, where this machine can."""

import logging
import os
import shutil
from typing import cast

import torch
from torch import nn

from metaformer.train.execution import Execution

COMPILERS = ("c++", "g++", "clang++", "cl")

log = logging.getLogger("metaformer.train")


def compiled(model: nn.Module, execution: Execution) -> nn.Module:
    """The model as `torch.compile` makes it, if that is wanted and there is a compiler; parameters are shared."""
    if not execution.compile:
        return model
    names = (os.environ["CXX"],) if "CXX" in os.environ else COMPILERS
    if next(model.parameters()).device.type == "cpu" and not any(shutil.which(name) for name in names):
        log.warning(
            "execution.compile needs a C++ compiler (%s), and none is here: going on without.", ", ".join(names)
        )
        return model
    return cast(nn.Module, torch.compile(model))
