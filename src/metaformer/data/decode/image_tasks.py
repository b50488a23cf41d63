"""What reads images for large data sets: tasks, and batches of what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from metaformer.core.seeding import key_seed
from metaformer.data.augment.augmentation import AugmentationConfig, is_flipped_in
from metaformer.data.augment.image_augmentation import ImageAugmentation
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.decode.image_file import ImageError
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.image_set import Sample
from metaformer.data.source import Unreadable


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """An image to read."""

    sample: Sample  # with a label in the order of the classes
    key: int | None = None  # decides its augmentation; None: as in evaluation
    is_flipped: bool | None = None  # where the flip alternates; None: by the key


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadImages:
    """The readable images of some tasks, in their order."""

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    places: tuple[int, ...]  # of each among the tasks
    num_tasks: int
    unreadable: tuple[Unreadable, ...]


class ImageReader:
    """Reads batches of tasks. It travels to other processes as its two settings."""

    def __init__(self, augmentation: AugmentationConfig, transform: ImageTransform) -> None:
        self._augmentation, self._transform = augmentation, transform
        # Made here and not at the first image: a wrong setting is told before a worker starts. The border that
        # evaluation cuts off belongs to what training may see.
        self._augment = ImageAugmentation(augmentation, transform.with_preprocessing(crop_fraction=1.0))

    def __reduce__(self) -> tuple[type["ImageReader"], tuple[AugmentationConfig, ImageTransform]]:
        return ImageReader, (self._augmentation, self._transform)

    def training_task(
        self, sample: Sample, plan: BatchPlan, *, image: int | str, reading: int | None = None
    ) -> ImageTask:
        """The task of an image in an epoch.

        Args:
            sample: The image.
            plan: Has the seed and the epoch.
            image: Its number or name, the same in every epoch.
            reading: How often the epoch had it before, where it may come again.
        """
        again = () if reading is None else (reading,)
        is_flipped = None
        if self._augmentation.alternating_flip:
            is_flipped = is_flipped_in(plan.epoch + sum(again), plan.seed, image)
        key = key_seed("augmentation", plan.seed, plan.epoch, image, *again)
        return ImageTask(sample=sample, key=key, is_flipped=is_flipped)

    # The name by which PyTorch's DataLoader asks for a whole batch.
    def __getitems__(self, tasks: Sequence[ImageTask]) -> ReadImages:
        images: list[Tensor] = []
        places: list[int] = []
        unreadable: list[Unreadable] = []
        for place, task in enumerate(tasks):
            try:
                images.append(self._read(task))
                places.append(place)
            except ImageError as error:
                unreadable.append((task.sample.name, str(error)))
        empty = torch.empty(0, self._transform.in_chans, *self._transform.image_size)
        return ReadImages(
            images=torch.stack(images) if images else empty,
            labels=torch.tensor([tasks[place].sample.label for place in places], dtype=torch.int64),
            places=tuple(places),
            num_tasks=len(tasks),
            unreadable=tuple(unreadable),
        )

    def _read(self, task: ImageTask) -> Float[Tensor, "c h w"]:
        if task.key is not None:
            return self._augment(task.sample.image, key=task.key, is_flipped=task.is_flipped)
        return self._transform.normalise(self._transform.pixels(task.sample.image)[None])[0]
