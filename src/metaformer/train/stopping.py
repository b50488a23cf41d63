"""What ends a training early, and how it is said: a signal, too little memory, a full disk."""

import contextlib
import errno
import os
import re
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

import torch

from metaformer.core.errors import StoppedError
from metaformer.core.memory import highest_memory_mib
from metaformer.train.config import Execution, TrainConfig

KEPT = "What was saved stays: the same command goes on from there, once there is room."


class InterruptedRunError(StoppedError):
    """A signal asked the run to stop, and it is saved."""

    failure_kind = "interrupted"

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class Interruption:
    """While it is entered, SIGTERM and Ctrl-C are noted; the second one takes effect at once."""

    def __init__(self) -> None:
        self.signal_number = 0  # of the first signal; 0: none came
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class OutOfMemoryError(StoppedError):
    """There is too little memory; says which setting to change."""

    failure_kind = "out_of_memory"


class DiskError(StoppedError):
    """What a run leaves cannot be written."""

    failure_kind = "disk"


def peak_memory_mib(device: torch.device) -> float:
    """The most that this process has used so far: of the GPU, else of main memory (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return highest_memory_mib()


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


@contextlib.contextmanager
def naming_disk_errors(what: str, kept: str) -> Iterator[None]:
    """Turns what a failed write says into a sentence.

    Args:
        what: That could not be written.
        kept: A sentence on what is saved.

    Raises:
        DiskError: The block could not write.
    """
    try:
        yield
    # torch and safetensors have errors of their own around that of the system.
    except Exception as error:
        number = _system_error(error)
        if number is None:
            raise
        is_full = number in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if is_full else os.strerror(number)
        raise DiskError(f"cannot write {what}: {reason}. {kept}") from None


def _system_error(error: BaseException | None) -> int | None:
    """The number of the system's error that is behind an error, if one is."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if type(error).__name__ == "SafetensorError" and (found := re.search(r"\(os error (\d+)\)", str(error))):
            return int(found[1])
        error = error.__context__
    return None
