"""How well a model classifies."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Loss and accuracy over a split."""

    loss: float  # mean cross-entropy, in nats
    accuracy: float  # top-1, in percent
    per_class_accuracy: tuple[float, ...]  # in percent


@torch.no_grad()
def evaluate(
    model: nn.Module, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, batch_size: int = 250
) -> Evaluation:
    """Runs the model over images, in evaluation mode."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    logits = torch.cat([model(batch.to(device)).float().cpu() for batch in images.split(batch_size)])
    model.train(was_training)
    hits = (logits.argmax(dim=1) == labels).double()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    hits_by_class = torch.bincount(labels, weights=hits, minlength=logits.shape[1])
    return Evaluation(
        loss=float(F.cross_entropy(logits, labels)),
        accuracy=100 * float(hits.mean()),
        # A class without images has no misses either.
        per_class_accuracy=tuple((100 * (hits_by_class + (counts == 0)) / counts.clamp(min=1)).tolist()),
    )
