"""Small data sets: decoded once, kept in memory, varied a batch at a time."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from metaformer.core.errors import ConfigError
from metaformer.core.seeding import generator
from metaformer.data.augment.batch_augmentation import BatchAugmentation
from metaformer.data.batch_plan import Batch, BatchPlan
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.decode.pixels import decode, pixel_statistics
from metaformer.data.held.storage import Storage
from metaformer.data.image_splits import ImagePart, ImageSplits
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataFacts, DataOrigin, Unreadable

Decoded = tuple[UInt8[Tensor, "_ c h w"], Int64[Tensor, " _"]]


class MemoryImages:
    """All images as bytes in memory, at the size that the model takes.

    An image that cannot be read is left out of its split.
    """

    def __init__(self, splits: ImageSplits, preparation: Preparation, *, storage: Storage, origin: DataOrigin) -> None:
        self.unreadable: list[Unreadable] = []
        self._same_size = not storage.is_given
        transform = ImageTransform(preparation.model_input(storage.image_size))
        # The border that evaluation cuts off belongs to what training may see.
        pixels, self._labels = self._decode(splits.train, transform.with_preprocessing(crop_fraction=1.0))
        if not preparation.mean:
            mean, std = pixel_statistics(pixels)
            transform = transform.with_preprocessing(mean=mean, std=std)
        self._transform = transform
        self._augmentation = BatchAugmentation(pixels, preparation.augmentation, self._transform)
        evaluated = {"validation": splits.validation} | ({"test": splits.test} if splits.test else {})
        self._evaluated = {split: self._decode(part, self._transform) for split, part in evaluated.items()}
        lost = f" {len(self.unreadable)} images cannot be read and are left out." if self.unreadable else ""
        self.facts = DataFacts(
            name=origin.name,
            title=origin.title,
            notes=origin.notes,
            fingerprint=origin.fingerprint,
            description=splits.description + lost,
            class_names=splits.class_names,
            model_input=transform.model_input,
            num_train=len(self._labels),
            num_validation=len(self._evaluated["validation"][1]),
            num_test=len(self._evaluated["test"][1]) if "test" in self._evaluated else 0,
        )

    def train_batches(self, plan: BatchPlan) -> Iterator[Batch]:
        order = torch.randperm(len(self._labels), generator=generator("order", plan.seed, plan.epoch))
        numbers = self._augmentation.draw(seed=plan.seed, epoch=plan.epoch)
        for part in plan.parts(len(self._labels)):
            yield self._augmentation.batch(order[part], numbers), self._labels[order[part]]

    def evaluation_batches(
        self, split: str, *, batch_size: int = 250, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        if split not in self._evaluated:
            raise ConfigError(f"{self.facts.name} has no split {split!r}. It has: {', '.join(self._evaluated)}.")
        pixels, labels = self._evaluated[split]
        for part in torch.arange(rank, len(labels), world_size).split(batch_size):
            yield self._transform.normalise(pixels[part]), labels[part]

    def _decode(self, part: ImagePart, transform: ImageTransform) -> Decoded:
        pixels, places, unreadable = decode(
            part, transform, num_images=len(part), where=part.images.name, same_size=self._same_size
        )
        self.unreadable += unreadable
        return pixels, part.labels[places]
