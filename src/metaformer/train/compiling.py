"""torch.compile, where this machine can."""

import logging

from torch import nn

from metaformer.core.compiling import compile_module, compiler_names, cpp_compiler
from metaformer.train.execution import Execution

log = logging.getLogger("metaformer.train")


def compiled(model: nn.Module, execution: Execution) -> nn.Module:
    """The model as `torch.compile` makes it, if that is wanted and there is a compiler; parameters are shared."""
    if not execution.compile:
        return model
    if next(model.parameters()).device.type == "cpu" and cpp_compiler() is None:
        log.warning(
            "execution.compile needs a C++ compiler (%s), and none is here: going on without.",
            ", ".join(compiler_names()),
        )
        return model
    return compile_module(model)
