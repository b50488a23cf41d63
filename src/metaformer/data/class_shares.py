"""Parts of labelled images in which every class has its share."""

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.core.seeding import generator


def interleave_classes(labels: Int64[Tensor, " n"], key: str) -> Int64[Tensor, " n"]:
    """An order in which every stretch holds each class in its share: random within a class, then dealt out.

    Args:
        labels: One an image.
        key: Decides the order; the same for the same key and labels.

    Returns:
        Indices of the images.
    """
    random = generator(key)
    place = torch.empty(len(labels))
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=random)]
        place[members] = (torch.arange(len(members)) + 0.5) / len(members)
    return place.argsort(stable=True)
