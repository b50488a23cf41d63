"""Labelled arrays in memory: signals, pictures or volumes, as they are."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from metaformer.core.preprocessing import as_it_is
from metaformer.core.seeding import generator
from metaformer.data.batch_plan import Batch, BatchPlan
from metaformer.data.class_shares import interleave_classes
from metaformer.data.notes import Note
from metaformer.data.source import DataFacts, Unreadable, evaluation_batches_of, train_batches_of

VALIDATION_FRACTION = 0.1
# The splits of one object differ in length.
Split = tuple[Float[Tensor, "_ c *_size"], Int64[Tensor, " _"]]


class Arrays:
    """Arrays of one, two or three axes behind their channels, normalised per channel and never augmented.

    Args:
        train: A tenth of it, every class with its share, becomes the validation split.
        test: None: there is no test split.
        name: As the data were asked for.
        title: For the report.
        description: Sentences for the report.
        class_names: In the order of the labels.
        notes: What was decided when they were read.
    """

    def __init__(
        self,
        train: Split,
        test: Split | None,
        *,
        name: str,
        title: str,
        description: str,
        class_names: tuple[str, ...],
        notes: tuple[Note, ...] = (),
    ) -> None:
        inputs, labels = train
        order = interleave_classes(labels, "arrays split")
        num_validation = max(1, round(VALIDATION_FRACTION * len(labels)))
        validation, kept = order[:num_validation], order[num_validation:]
        axes = (0, *range(2, inputs.ndim))
        self._mean, self._std = inputs[kept].mean(dim=axes), inputs[kept].std(dim=axes).clamp(min=1e-6)
        self._train = self._normalised(inputs[kept], labels[kept])
        self._parts = {"validation": self._normalised(inputs[validation], labels[validation])}
        if test is not None:
            self._parts["test"] = self._normalised(*test)
        self.unreadable: list[Unreadable] = []
        self.facts = DataFacts(
            name=name,
            title=title,
            description=description,
            class_names=class_names,
            model_input=as_it_is(
                tuple(inputs.shape[2:]), mean=tuple(self._mean.tolist()), std=tuple(self._std.tolist())
            ),
            num_train=len(kept),
            num_validation=num_validation,
            num_test=0 if test is None else len(test[1]),
            notes=notes,
        )

    def train_batches(self, plan: BatchPlan) -> Iterator[Batch]:
        inputs, labels = self._train
        # Not by the name of the data, which holds the file's path: the same arrays elsewhere train the same model.
        order = torch.randperm(len(labels), generator=generator("order", plan.seed, plan.epoch))
        return train_batches_of(inputs[order], labels[order], plan)

    def evaluation_batches(
        self, split: str, *, batch_size: int = 250, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        return evaluation_batches_of(*self._parts[split], batch_size=batch_size, rank=rank, world_size=world_size)

    def _normalised(self, inputs: Tensor, labels: Tensor) -> Split:
        along = (-1, *(1,) * (inputs.ndim - 2))
        return (inputs - self._mean.view(along)) / self._std.view(along), labels
