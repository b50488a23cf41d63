"""Images that could only be read in order, kept as files in memory."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.data.image_set import ImageSet, Sample


class ListedImages:
    """Reads a set once, without decoding; from then on each image can be had by its number."""

    group_sizes: tuple[int, ...] = ()
    groups_at_once = 1

    def __init__(self, images: ImageSet) -> None:
        self.name, self.class_names = images.name, images.class_names
        self.order_is_by_name = images.order_is_by_name
        self._samples = list(images)
        self.num_images = len(self._samples)

    def read_labels(self) -> Int64[Tensor, " n"]:
        return torch.tensor([-1 if sample.label is None else sample.label for sample in self._samples])

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)
