"""One training in several processes, as `torchrun` starts them: Lightning Fabric, and what it leaves to us."""

import contextlib
import inspect
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from metaformer.block.norm import BatchNorm
from metaformer.block.residual import Residual
from metaformer.core.devices import parse_device
from metaformer.core.errors import ConfigError, MissingExtraError, StoppedError
from metaformer.core.seeding import generator
from metaformer.train.config import Execution, TrainConfig

# PyTorch 2.14 calls it otherwise.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)
log = logging.getLogger("metaformer.train")


class LostProcessError(StoppedError):
    """Another process of the same training is gone."""

    failure_kind = "lost_process"


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
    kind, index = parse_device(execution.device, setting="execution.device")
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


class _GatherProcesses(torch.autograd.Function):
    """A tensor of each process, stacked; each process's gradient reaches all of them."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        gathered = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, x)
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        summed = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed[dist.get_rank()]


class SyncedBatchNorm(BatchNorm):
    """Mean and variance over B and grid of every process, in training; each process must have equally many images."""

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        # Sums of half precision would be too coarse.
        values = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(values, dim=(0, *range(2, x.ndim)), correction=0)
        means, variances = _GatherProcesses.apply(torch.stack([mean, variance])).unbind(dim=1)
        mean = means.mean(dim=0)
        # Never as a difference of squares, which loses all digits where the mean is large.
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        self._update(mean.detach(), variance.detach() * count / max(1, count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        # One number a channel, along the grid's one, two or three axes.
        along = (-1, *(1,) * (x.ndim - 2))
        y = (values - mean.view(along)) * scale.view(along)
        return (y + self.bias.view(along) if self.affine else y).to(x.dtype)

    @torch.no_grad()
    def _update(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Batch norms of a model take their statistics over all processes from now on; parameters and names stay."""
    others = set()
    for module in model.modules():
        # The class alone changes: the state is the same, and so is what a checkpoint holds.
        if type(module) in (nn.BatchNorm2d, BatchNorm):
            module.__class__ = SyncedBatchNorm
        elif isinstance(module, _BatchNorm) and not isinstance(module, SyncedBatchNorm | nn.SyncBatchNorm):
            others.add(type(module).__name__)
    if others:
        names = ", ".join(sorted(others))
        log.warning("the batch norms %s are not synchronised: each process takes its own images.", names)


class DropPathNoise:
    """Sets the noise of every residual connection that drops paths, before each part of a batch.

    Residual connections of other packages' models draw from PyTorch's generator, which the loop seeds by step and
    process.
    """

    def __init__(self, model: nn.Module, batch_size: int) -> None:
        self._residuals = [part for part in model.modules() if isinstance(part, Residual) and part.drop_path > 0]
        self._batch_size = batch_size
        device = next(model.parameters()).device
        self._stored = torch.zeros(len(self._residuals), batch_size, device=device)
        self._drawn = self._stored.cpu()
        self._drawn_for: tuple[int, int, int] | None = None

    def set(self, part: slice, *, seed: int, epoch: int, step: int) -> None:
        """The numbers of this part of the global batch of a step."""
        if not self._residuals:
            return
        if self._drawn_for != (seed, epoch, step):
            random = generator("drop path", seed, epoch, step)
            self._drawn = torch.rand(len(self._residuals), self._batch_size, generator=random)
            self._drawn_for = (seed, epoch, step)
        size = part.stop - part.start
        # Always in the same memory: compiled code then sees the same tensors.
        self._stored[:, :size].copy_(self._drawn[:, part])
        for residual, numbers in zip(self._residuals, self._stored, strict=True):
            residual.drop_path_noise = numbers[:size]

    def clear(self) -> None:
        """Leaves the model as it was: drawing for itself."""
        for residual in self._residuals:
            residual.drop_path_noise = None
