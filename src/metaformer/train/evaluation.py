"""How well a model classifies: one set of sums, for the epochs of a training and for a trained model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from metaformer.core.errors import DataError
from metaformer.data.batch_plan import Batch

TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Loss and accuracy over a split."""

    loss: float  # mean cross-entropy, in nats; not a number where a score is none
    accuracy: float  # top-1, in percent
    top5: float | None  # in percent; None where five classes are all
    per_class_accuracy: tuple[float, ...]  # in percent
    num_images: int
    num_without_scores: int  # images of which a score is not a finite number; they count as wrong


class ClassSums:
    """What labelled images add up to, a class at a time."""

    def __init__(self) -> None:
        # Rows: images, hits, hits among the likeliest five, loss, images without finite scores.
        self._sums: Tensor | None = None

    def add(self, scores: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]) -> None:
        """Counts a batch, on the device where it is."""
        losses = F.cross_entropy(scores, labels, reduction="none").double()
        is_finite = scores.isfinite().all(dim=1)
        is_hit = (scores.argmax(dim=1) == labels) & is_finite
        best = scores.topk(min(TOP_K, scores.shape[1]), dim=1).indices
        is_among_best = (best == labels[:, None]).any(dim=1) & is_finite
        values = torch.stack([torch.ones_like(losses), is_hit, is_among_best, losses, ~is_finite])
        if self._sums is None:
            self._sums = torch.zeros(len(values), scores.shape[1], dtype=torch.float64, device=scores.device)
        self._sums.index_add_(1, labels, values)

    def add_other_processes(self, fabric: Any, device: torch.device) -> None:
        """Adds what the other processes of a training counted; each must call it."""
        # A process without a share still takes part in the sum.
        here = 0 if self._sums is None else self._sums.shape[1]
        num_classes = int(fabric.all_reduce(torch.tensor(here), reduce_op="max"))
        if self._sums is None:
            self._sums = torch.zeros(5, num_classes, dtype=torch.float64, device=device)
        self._sums = fabric.all_reduce(self._sums, reduce_op="sum")

    def result(self) -> Evaluation:
        """The measures.

        Raises:
            DataError: There were no images.
        """
        if self._sums is None or not self._sums[0].sum():
            raise DataError("there is no image to evaluate on.")
        counts, hits, among_best, losses, without = self._sums.cpu()
        num_images = counts.sum()
        return Evaluation(
            loss=float(losses.sum() / num_images),
            accuracy=100 * float(hits.sum() / num_images),
            top5=100 * float(among_best.sum() / num_images) if len(counts) > TOP_K else None,
            # A class without images has no misses either.
            per_class_accuracy=tuple((100 * (hits + (counts == 0)) / counts.clamp(min=1)).tolist()),
            num_images=int(num_images),
            num_without_scores=int(without.sum()),
        )


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
    sums = ClassSums()
    for images, labels in batches:
        if fabric is None:
            logits = model(images.to(device)).float()
        else:
            with fabric.autocast():
                logits = model(images.to(device)).float()
        sums.add(logits, labels.to(device))
    model.train(was_training)
    if fabric is not None and fabric.world_size > 1:
        sums.add_other_processes(fabric, device)
    return sums.result()
