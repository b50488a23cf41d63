"""One training in several processes, as `torchrun` starts them: Lightning Fabric, and what it leaves to us."""

import contextlib
import inspect
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from metaformer.core.errors import ConfigError, MissingExtraError, StoppedError, unknown
from metaformer.train.config import TrainConfig
from metaformer.train.execution import Execution

# PyTorch 2.14 calls it otherwise.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)


class LostProcessError(StoppedError):
    """Another process of the same training is gone."""


def start_fabric(config: TrainConfig, execution: Execution) -> Any:
    """Joins the other processes of this training, if `torchrun` started some, and chooses the device.

    Raises:
        ConfigError: There is no such device here, or the batch cannot be divided.
        MissingExtraError: Fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError:
        raise MissingExtraError(need="training", extra="train") from None
    # Fabric announces what it found; a run record says it better.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    kind, index = _device(execution.device)
    if config.precision == "16-mixed" and (kind == "cpu" or not torch.accelerator.is_available()):
        raise ConfigError("train.precision '16-mixed' needs a GPU, and this training is on the CPU. Try 'bf16-mixed'.")
    fabric = Fabric(
        accelerator=kind,
        devices=local if index is None or world > 1 else [index],
        num_nodes=max(1, world // local),
        # Buffers are the same in all processes: batch norm is synchronised, random matrices are frozen.
        strategy=DDPStrategy(**{_SYNC_BUFFERS: False}) if world > 1 else "auto",
        precision=config.precision,
    )
    if world > 1:
        fabric.launch()
    return fabric


def local_batch_size(config: TrainConfig, world_size: int) -> int:
    """Images of a step in one process.

    Raises:
        ConfigError: The batch cannot be divided among the processes.
    """
    if config.batch_size % world_size:
        nearest = max(1, round(config.batch_size / world_size)) * world_size
        raise ConfigError(
            f"train.batch_size must be a multiple of the number of processes ({world_size}); got "
            f"{config.batch_size}. Try {nearest}."
        )
    local = config.batch_size // world_size
    if world_size > 1 and config.mixing.is_on and local % 2:
        raise ConfigError(
            f"train.mixing mixes pairs, so each of the {world_size} processes must have an even part of "
            f"train.batch_size; got {config.batch_size}. Try {2 * world_size * max(1, round(local / 2))}."
        )
    return local


def gather_numbers(numbers: list[float], fabric: Any) -> list[list[float]]:
    """Equally many numbers of each process, in all of them."""
    mine = torch.tensor(numbers, dtype=torch.float64, device=fabric.device)
    gathered = [torch.empty_like(mine) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(gathered, mine)
    return [row.tolist() for row in gathered]


@contextlib.contextmanager
def naming_lost_processes(fabric: Any) -> Iterator[None]:
    """Turns what the network says when another process dies into a sentence.

    Raises:
        LostProcessError: Another process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or isinstance(error, StoppedError) or not _is_of_the_network(error):
            raise
        raise LostProcessError(
            f"another of the {fabric.world_size} processes of this training ended; process {fabric.global_rank} stops "
            "too. What was saved stays: the same command goes on from there."
        ) from None


def _is_of_the_network(error: BaseException) -> bool:
    text = str(error).lower()
    words = ("connection", "gloo", "nccl", "peer", "socket", "timed out", "rendezvous")
    return isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError) or any(
        word in text for word in words
    )


def _device(device: str) -> tuple[str, int | None]:
    """The kind of a device and its number, as of `cuda:1`."""
    kind, _, number = device.partition(":")
    if number and not number.isdecimal():
        raise ConfigError(f"execution.device must be as cuda or cuda:1; got {device!r}. Try {kind!r}.")
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    known = ["auto", "cpu", *([here.type] if here else [])]
    if kind not in known:
        raise unknown("execution.device", device, known)
    count = torch.accelerator.device_count() if here and kind == here.type else 1
    if number and not int(number) < count:
        raise ConfigError(f"execution.device must be one of {kind}:0 to {kind}:{count - 1} here; got {device!r}.")
    return kind, int(number) if number and kind not in ("auto", "cpu") else None
