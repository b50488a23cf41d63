"""Large tensors that a training step needs again in the next one."""

from weakref import WeakSet

import torch
from torch import Tensor


class SpareBuffers:
    """Takes back tensors that nobody reads any more, and hands them out again.

    A large block of fresh memory has to be cleared by the system, page by page, which can take longer than what is
    computed into it. What is spare lives as long as this object; copies of it begin empty.
    """

    def __init__(self) -> None:
        self._spare: dict[tuple[tuple[int, ...], torch.dtype], list[Tensor]] = {}
        _all.add(self)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor on the CPU with any numbers in it, the caller's until it is given back."""
        spare = self._spare.get((shape, dtype))
        return spare.pop() if spare else torch.empty(shape, dtype=dtype)

    def give_back(self, buffer: Tensor) -> None:
        """Nobody else may read the tensor from now on."""
        self._spare.setdefault((tuple(buffer.shape), buffer.dtype), []).append(buffer)

    def clear(self) -> None:
        """Lets go of what is spare."""
        self._spare.clear()

    def __deepcopy__(self, memo: dict[int, object]) -> "SpareBuffers":
        # Blocks that share one go on sharing.
        return memo.setdefault(id(self), SpareBuffers())  # type: ignore[return-value]

    def __reduce__(self) -> tuple[type["SpareBuffers"], tuple[()]]:
        return SpareBuffers, ()


_all: WeakSet[SpareBuffers] = WeakSet()


def clear_spare_buffers() -> None:
    """Lets go of every spare tensor of this process; the next step needs fresh ones."""
    for buffers in _all:
        buffers.clear()
