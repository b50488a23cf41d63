"""Batch norm over the images of all processes, on any device; PyTorch's own needs a GPU."""

import logging

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

log = logging.getLogger("metaformer.train")


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


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Mean and variance over B, H, W of every process, in training; each process must have equally many images."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        # Sums of half precision would be too coarse.
        values = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        means, variances = _GatherProcesses.apply(torch.stack([mean, variance])).unbind(dim=1)
        mean = means.mean(dim=0)
        # Never as a difference of squares, which loses all digits where the mean is large.
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        self._update(mean.detach(), variance.detach() * count / max(1, count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        y = (values - mean[:, None, None]) * scale[:, None, None]
        return (y + self.bias[:, None, None] if self.affine else y).to(x.dtype)

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
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
        elif isinstance(module, _BatchNorm) and not isinstance(module, SyncedBatchNorm2d | nn.SyncBatchNorm):
            others.add(type(module).__name__)
    if others:
        names = ", ".join(sorted(others))
        log.warning("the batch norms %s are not synchronised: each process takes its own images.", names)
