"""Large data sets with an index: every image is read when its turn comes."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.core.errors import ConfigError
from metaformer.core.seeding import generator
from metaformer.data.batch_plan import Batch, BatchPlan
from metaformer.data.decode.image_loader import ImageLoader, Tasks
from metaformer.data.decode.image_tasks import ImageReader, ImageTask
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.decode.statistics_sample import with_statistics
from metaformer.data.image_splits import ImagePart, ImageSplits
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataFacts, DataOrigin, Unreadable


class LargeImages:
    """Images that are read in every epoch, by workers.

    The order and all that is random in an image belong to seed, epoch and the image's number. An image that cannot be
    read is replaced by the next good one of the same process's part of the batch.
    """

    def __init__(
        self,
        splits: ImageSplits,
        preparation: Preparation,
        *,
        image_size: tuple[int, int],
        origin: DataOrigin,
        num_workers: int = 0,
    ) -> None:
        self._splits = splits
        self._loader = ImageLoader(num_workers=num_workers, where=origin.name)
        # One list: the loader adds to it.
        self.unreadable: list[Unreadable] = self._loader.unreadable
        transform = ImageTransform(preparation.model_input(image_size))
        transform, told = with_statistics(transform, preparation, splits.train)
        self._reader = ImageReader(preparation.augmentation, transform)
        self._read_together = _groups(splits.train)
        self.facts = DataFacts(
            name=origin.name,
            title=origin.title,
            notes=origin.notes,
            fingerprint=origin.fingerprint,
            description=f"{splits.description}{told}",
            class_names=splits.class_names,
            model_input=transform.model_input,
            num_train=len(splits.train),
            num_validation=len(splits.validation),
            num_test=len(splits.test) if splits.test else 0,
        )

    def train_batches(self, plan: BatchPlan) -> Iterator[Batch]:
        return self._loader.training_batches(self._reader, self._training_tasks(plan))

    def evaluation_batches(
        self, split: str, *, batch_size: int = 250, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        parts = {"validation": self._splits.validation} | ({"test": self._splits.test} if self._splits.test else {})
        if split not in parts:
            raise ConfigError(f"{self.facts.name} has no split {split!r}. It has: {', '.join(parts)}.")
        part = parts[split]
        # Neighbours together: they may be stored together.
        mine = torch.arange(len(part)).tensor_split(world_size)[rank]
        tasks = ([ImageTask(sample=part.sample(int(place))) for place in some] for some in mine.split(batch_size))
        return self._loader.evaluation_batches(self._reader, (some for some in tasks if some))

    def _training_tasks(self, plan: BatchPlan) -> Iterator[Tasks]:
        part = self._splits.train
        order = epoch_order(self._read_together, generator("order", plan.seed, plan.epoch))
        for steps_part in plan.parts(len(part)):
            yield [
                self._reader.training_task(part.sample(place), plan, image=int(part.indices[place]))
                for place in order[steps_part].tolist()
            ]


def epoch_order(read_together: Int64[Tensor, " n"], random: torch.Generator) -> Int64[Tensor, " n"]:
    """A random order in which the images of each window follow each other: what is read together is used together.

    Args:
        read_together: The number of each image's window; all 0 where each image is read alone.
        random: Decides the order of the windows, and that of the images in each.
    """
    num_windows = int(read_together.max()) + 1
    turn = torch.randperm(num_windows, generator=random)[read_together]
    place = torch.randperm(len(read_together), generator=random)
    return (turn * len(read_together) + place).argsort()


def _groups(part: ImagePart) -> Int64[Tensor, " n"]:
    """Which window of row groups each image is in."""
    sizes = part.images.group_sizes
    if not sizes:
        return torch.zeros(len(part), dtype=torch.int64)
    ends = torch.tensor(sizes).cumsum(0)
    return torch.searchsorted(ends, part.indices, right=True) // part.images.groups_at_once
