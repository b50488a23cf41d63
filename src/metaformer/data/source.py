"""The contract of a data source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from metaformer.core.preprocessing import ModelInput
from metaformer.data.batch_plan import Batch, BatchPlan, Images, Labels
from metaformer.data.notes import Note

Unreadable = tuple[str, str]  # the name of an image, and why it cannot be read


@dataclass(frozen=True, kw_only=True)
class DataOrigin:
    """Where data come from, and what was decided when they were opened."""

    name: str
    title: str
    notes: tuple[Note, ...] = ()  # choices between two readings, and what was left out
    fingerprint: str = ""  # the same for the same images and labels, wherever they lie


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What a model and a report need to know of a data set, as it was opened."""

    name: str
    title: str
    description: str  # a few sentences for the report: what the images are, how the splits were made
    class_names: tuple[str, ...]
    model_input: ModelInput  # what a model sees of them; mean and standard deviation are those of training pixels
    num_train: int  # images an epoch
    num_validation: int
    num_test: int  # 0: the source has no test split
    notes: tuple[Note, ...] = ()  # choices between two readings, and what was left out
    fingerprint: str = ""  # the same for the same images and labels, wherever they lie

    @property
    def image_size(self) -> tuple[int, ...]:
        """The side along each axis, in pixels."""
        return self.model_input.image_size

    @property
    def in_chans(self) -> int:
        return self.model_input.in_chans

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, of pixels in [0, 1]."""
        return self.model_input.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.model_input.preprocessing.std


@runtime_checkable
class DataSource(Protocol):
    """Labelled images in up to three splits, ready for a model: augmented (training), normalised, in batches.

    Choices are made on the validation split; the test split is read once a run. What is random is keyed by seed, epoch
    and image: never by process, worker or the order of calls.
    """

    facts: DataFacts
    unreadable: list[Unreadable]  # images that could not be read so far, in any split; none was trained on

    def train_batches(self, plan: BatchPlan) -> Iterator[Batch]:
        """The batches of one process in one epoch, from the plan's first step on."""
        ...

    def evaluation_batches(
        self, split: str, *, batch_size: int = 250, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """A process's share of the "validation" or "test" split; every image is in exactly one share."""
        ...


def train_batches_of(images: Images, labels: Labels, plan: BatchPlan) -> Iterator[Batch]:
    """The batches of an epoch that lies in memory, in its order."""
    for part in plan.parts(len(labels)):
        yield images[part], labels[part]


def evaluation_batches_of(
    images: Images, labels: Labels, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """The batches of a process's share of a split that lies in memory."""
    mine = torch.arange(rank, len(labels), world_size)
    for part in mine.split(batch_size):
        yield images[part], labels[part]
