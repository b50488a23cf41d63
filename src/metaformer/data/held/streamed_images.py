"""Shards that are read from beginning to end: too large to keep, and without an index."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.batch_plan import Batch, BatchPlan
from metaformer.data.classes import clean_label
from metaformer.data.decode.image_loader import ImageLoader, Tasks
from metaformer.data.decode.image_tasks import ImageReader, ImageTask
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.decode.statistics_sample import NUM_IMAGES, of_samples
from metaformer.data.held.shuffle_buffer import endless_training_images
from metaformer.data.held.storage import size_of_first
from metaformer.data.held.stream_facts import StreamFacts, is_held_out
from metaformer.data.image_set import Sample, ShardedImages
from metaformer.data.notes import some
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataFacts, DataOrigin, Unreadable

log = logging.getLogger("metaformer.data")


class StreamedImages:
    """Shards in an order of each epoch's own, divided among the processes, through a buffer that shuffles.

    The batches of an epoch depend on the number of processes, and not on the number of workers. To go on in the middle
    of an epoch the stream is read, but not decoded, up to there.
    """

    def __init__(
        self,
        found: Mapping[str, ShardedImages],
        facts: StreamFacts,
        preparation: Preparation,
        *,
        origin: DataOrigin,
        num_workers: int = 0,
    ) -> None:
        self._found = found
        self._held_out = facts.held_out
        self._shard_sizes = facts.shard_sizes
        self._loader = ImageLoader(num_workers=num_workers, where=origin.name)
        # One list: the loader adds to it.
        self.unreadable: list[Unreadable] = self._loader.unreadable
        image_size = preparation.image_size or size_of_first(found["train"], where=origin.name)
        transform, told = ImageTransform(preparation.model_input(image_size)), ""
        if not preparation.mean:
            some = list(islice(filter(self._is_for_training, found["train"]), NUM_IMAGES))
            transform, told = of_samples(transform, some, num_images=len(some), where=origin.name)
        self._reader = ImageReader(preparation.augmentation, transform)
        self._num_classes = len(facts.class_names)
        self._are_indices = bool(found["train"].class_names)
        self._place_of = {name: place for place, name in enumerate(facts.class_names)}
        self.facts = DataFacts(
            name=origin.name,
            title=origin.title,
            notes=origin.notes,
            fingerprint=origin.fingerprint,
            description=f"{facts.description}{told}",
            class_names=facts.class_names,
            model_input=transform.model_input,
            num_train=facts.num_train,
            num_validation=facts.num_validation,
            num_test=facts.num_test,
        )

    def train_batches(self, plan: BatchPlan) -> Iterator[Batch]:
        return self._loader.training_batches(self._reader, self._training_tasks(plan))

    def evaluation_batches(
        self, split: str, *, batch_size: int = 250, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        if split == "validation" and self._held_out:
            samples: Iterator[Sample] = filter(self._is_held_out, self._found["train"])
        elif split in self._found and split != "train":
            samples = iter(self._found[split])
        else:
            raise ConfigError(f"{self.facts.name} has no split {split!r}.")
        # Every process reads everything and decodes its share: the shares are then equal whatever the shards are.
        mine = islice(samples, rank, None, world_size)
        tasks = (ImageTask(sample=self._checked(sample)) for sample in mine)
        return self._loader.evaluation_batches(self._reader, _lists(tasks, batch_size))

    def _training_tasks(self, plan: BatchPlan) -> Iterator[Tasks]:
        samples = endless_training_images(
            self._found["train"],
            self._is_for_training,
            self._shard_sizes,
            seed=plan.seed,
            epoch=plan.epoch,
            rank=plan.rank,
            world_size=plan.world_size,
        )
        num_images = self.facts.num_train
        earlier = islice(replace(plan, first_step=0).parts(num_images), plan.first_step)
        done = sum(part.stop - part.start for part in earlier)
        if done:
            log.info("reading %s forward by %d images to step %d", self.facts.name, done, plan.first_step + 1)
            next(islice(samples, done, done), None)
        for part in plan.parts(num_images):
            yield [
                self._reader.training_task(self._checked(sample), plan, image=sample.name, reading=reading)
                for sample, reading in islice(samples, part.stop - part.start)
            ]

    def _checked(self, sample: Sample) -> Sample:
        label = clean_label(sample.label, sample.name)
        if label is None and not sample.image:
            return replace(sample, label=0)
        # Indices of a list of the source's; else numbers and words, which are the classes' names.
        place = (
            label
            if self._are_indices
            else self._place_of.get(str(label).lstrip("0") or "0", self._place_of.get(str(label)))
        )
        if not isinstance(place, int) or not 0 <= place < self._num_classes:
            raise DataError(f"{sample.name} has the label {label}; the classes are {some(self.facts.class_names)}.")
        return replace(sample, label=place)

    def _is_held_out(self, sample: Sample) -> bool:
        return is_held_out(sample.name, self._held_out)

    def _is_for_training(self, sample: Sample) -> bool:
        return not self._is_held_out(sample)


def _lists(tasks: Iterator[ImageTask], size: int) -> Iterator[Tasks]:
    while some := list(islice(tasks, size)):
        yield some
