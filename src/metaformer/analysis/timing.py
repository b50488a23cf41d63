"""How long a call takes, and how much memory it holds at most."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

WARM_UP_CALLS = 2
FEWEST_CALLS, MOST_CALLS = 3, 10_000
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a call takes, and how undisturbed that was."""

    latency_ms: float  # median over calls
    wall_s: float  # all calls together
    cpu_s: float  # of that, the calling thread was at work; on one thread of an idle machine the two are equal


@torch.no_grad()
def time_calls(module: nn.Module, x: Tensor, *, seconds: float = 0.05) -> Timing:
    """Times forward passes: as many as fit into `seconds`, three at least."""
    for _ in range(WARM_UP_CALLS):
        module(x)
    times: list[float] = []
    spent, cpu = 0.0, time.thread_time()
    while len(times) < FEWEST_CALLS or (spent < seconds and len(times) < MOST_CALLS):
        _wait_for(x)
        start = time.perf_counter()
        module(x)
        _wait_for(x)
        times.append(time.perf_counter() - start)
        spent += times[-1]
    return Timing(latency_ms=1000 * median(times), wall_s=spent, cpu_s=time.thread_time() - cpu)


@torch.no_grad()
def inference_memory_mib(module: nn.Module, x: Tensor) -> float:
    """The most that weights, input and all tensors of a forward pass hold at one time.

    On a GPU the allocator says; elsewhere tensors are watched as they come and go, which leaves out what an operator
    needs inside itself and gives back.
    """
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats(x.device)
        module(x)
        return torch.cuda.max_memory_allocated(x.device) / MIB
    fixed = [x, *module.parameters(), *module.buffers()]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in fixed}
    with _LiveBytes(set(storages)) as live:
        module(x)
    return (sum(storages.values()) + live.peak) / MIB


def _wait_for(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


class _LiveBytes(TorchDispatchMode):
    """Adds up what the tensors that operators return hold, as long as somebody holds them."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.peak = 0
        self._known = known
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        self._live = {key: (ref, size) for key, (ref, size) in self._live.items() if not ref.expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known and storage._cdata not in self._live:
            self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
