"""How well a model classifies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaformer.core.errors import DataError
from metaformer.data.batch_plan import Batch


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Loss and accuracy over a split."""

    loss: float  # mean cross-entropy, in nats
    accuracy: float  # top-1, in percent
    per_class_accuracy: tuple[float, ...]  # in percent
    num_images: int


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], *, fabric: Any = None) -> Evaluation:
    """Runs a model over labelled images, in evaluation mode.

    Args:
        model: Its classifier decides the number of classes.
        batches: This process's share of the images.
        fabric: Of the training, where there is one: its precision, and its other processes, whose sums are added.

    Raises:
        DataError: There are no images.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    # Per class: images, hits, loss.
    sums: Tensor | None = None
    for images, labels in batches:
        if fabric is None:
            logits = model(images.to(device)).float()
        else:
            with fabric.autocast():
                logits = model(images.to(device)).float()
        labels = labels.to(device)
        losses = F.cross_entropy(logits, labels, reduction="none").double()
        values = torch.stack([torch.ones_like(losses), (logits.argmax(dim=1) == labels).double(), losses])
        if sums is None:
            sums = torch.zeros(3, logits.shape[1], dtype=torch.float64, device=device)
        sums.index_add_(1, labels, values)
    model.train(was_training)
    if fabric is not None and fabric.world_size > 1:
        # A process without a share still takes part in the sum.
        num_classes = fabric.all_reduce(torch.tensor(0 if sums is None else sums.shape[1]), reduce_op="max")
        sums = torch.zeros(3, int(num_classes), dtype=torch.float64, device=device) if sums is None else sums
        sums = fabric.all_reduce(sums, reduce_op="sum")
    if sums is None or not sums[0].sum():
        raise DataError("there is no image to evaluate on.")
    counts, hits, losses = sums.cpu()
    return Evaluation(
        loss=float(losses.sum() / counts.sum()),
        accuracy=100 * float(hits.sum() / counts.sum()),
        # A class without images has no misses either.
        per_class_accuracy=tuple((100 * (hits + (counts == 0)) / counts.clamp(min=1)).tolist()),
        num_images=int(counts.sum()),
    )
