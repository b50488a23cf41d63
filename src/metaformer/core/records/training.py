"""What a training, an evaluation of its weights and a table of data leave behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from metaformer.core.measurement import Numbers, numbers


@dataclass(frozen=True, kw_only=True)
class History:
    """A training as columns with one value an epoch; None where a value was not finite."""

    epoch: tuple[int, ...]  # 1, 2, 3, ...
    seconds: Numbers  # since the start, validation included
    learning_rate: Numbers
    train_loss: Numbers  # nats
    validation_loss: Numbers  # nats
    validation_accuracy_percent: Numbers
    images_per_second: Numbers  # in training

    def __post_init__(self) -> None:
        if len({len(getattr(self, column.name)) for column in fields(self)}) > 1:
            raise ValueError("the columns of a history must have the same length.")

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[float]]) -> "History":
        """The columns of a training loop."""
        found = {name: numbers(columns[name]) for name in (*_LOOP_COLUMNS, "validation_accuracy")}
        accuracy = found.pop("validation_accuracy")
        return cls(epoch=tuple(map(int, columns["epoch"])), validation_accuracy_percent=accuracy, **found)


_LOOP_COLUMNS = ("seconds", "learning_rate", "train_loss", "validation_loss", "images_per_second")


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What a model costs on one image."""

    params: int  # trained
    frozen: int  # fixed numbers of the function, such as random matrices
    macs: int


@dataclass(frozen=True, kw_only=True)
class UnreadableImage:
    """An image that was left out."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """One model trained by a recipe, and its one test."""

    test_accuracy_percent: float | None = None  # None: the data have no test split
    test_loss: float | None = None  # nats
    validation_accuracy_percent: float  # of the weights that were kept, as the test accuracy is
    train_loss: float | None  # nats, of the last epoch
    images_per_second: float  # in training, median over epochs
    train_time_s: float
    peak_memory_mib: float
    best_epoch: int  # with the best validation accuracy
    kept_epoch: int  # whose weights were kept, and tested
    cost: ModelCost | None = None
    history: History
    class_names: tuple[str, ...] = ()
    per_class_accuracy_percent: Numbers = ()  # of the test; None for a class without images
    num_unreadable: int = 0
    unreadable: tuple[UnreadableImage, ...] = ()  # the first of them
    data: dict[str, Any] = field(default_factory=dict)  # what tells one data set from another, wherever it lies
    data_notes: tuple[str, ...] = ()  # how the data were read where they could be read otherwise
    preprocessing: dict[str, Any] | None = None  # how images become the model's input
    execution: dict[str, Any] = field(default_factory=dict)  # what changes speed and memory, and not the result
    num_processes: int = 1

    @property
    def final_validation_loss(self) -> float | None:
        """Of the last epoch."""
        last = self.history.validation_loss[-1] if self.history.validation_loss else None
        return last if last is not None and isfinite(last) else None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Trained weights on labelled images."""

    top1_percent: float
    top5_percent: float | None = None
    loss: float | None  # nats; None: not finite
    num_images: int
    num_without_scores: int = 0  # whose scores were no numbers; they count as wrong
    images_per_second: float  # with reading
    model_images_per_second: float  # the model alone
    class_names: tuple[str, ...] = ()
    class_note: str = ""  # how the data's classes were matched to the model's
    per_class_accuracy_percent: Numbers = ()  # None for a class without images
    confusion_file: str | None = None  # beside the record
    num_unreadable: int = 0
    unreadable: tuple[UnreadableImage, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)  # what tells one data set from another, wherever it lies
    data_notes: tuple[str, ...] = ()
