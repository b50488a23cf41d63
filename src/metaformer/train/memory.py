"""How much memory a training needs, and what to change when there is too little."""

import logging

import torch
from torch import nn

from metaformer.core.errors import StoppedError
from metaformer.core.memory import highest_memory_mib
from metaformer.train.config import TrainConfig
from metaformer.train.execution import Execution

log = logging.getLogger("metaformer.train")


class OutOfMemoryError(StoppedError):
    """There is too little memory; says which setting to change."""


def peak_memory_mib(device: torch.device) -> float:
    """The most that this process has used so far: of the GPU, else of main memory (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return highest_memory_mib()


def set_grad_checkpointing(model: nn.Module, execution: Execution) -> None:
    """Lets the model compute its activations twice, if that is wanted and the model can."""
    set_it = getattr(model, "set_grad_checkpointing", None)
    if callable(set_it):
        set_it(execution.grad_checkpointing)
    elif execution.grad_checkpointing:
        name = type(model).__name__
        log.warning(
            "execution.grad_checkpointing needs a model that offers it, and %s does not: going on without.", name
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch, or Python, could not get memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def advice(config: TrainConfig, execution: Execution, local_batch_size: int) -> str:
    """What to change, most harmless first."""
    size = execution.micro_batch_size or local_batch_size
    ways = []
    if size > 1:
        ways.append(f"--execution.micro-batch-size {max(1, size // 2)} (the same steps in smaller parts)")
    if execution.fast and execution.keep_hidden:
        ways.append("--execution.no-keep-hidden (slower by a tenth)")
    if not execution.grad_checkpointing:
        ways.append("--execution.grad-checkpointing (slower by about a third)")
    if config.precision == "32-true":
        ways.append("--train.precision bf16-mixed")
    ways.append("a smaller model or --preparation.image-size")
    return f"out of memory with {size} images at once. Try {'; or '.join(ways)}."
