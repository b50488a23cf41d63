"""Stochastic depth drawn by sample: the same for any number of processes and parts of a batch."""

import torch
from torch import nn

from metaformer.block.residual import Residual
from metaformer.core.seeding import generator


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
