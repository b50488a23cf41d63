"""Which classes are taken for which: only the pairs that occur, so that tens of thousands of classes cost nothing."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

MOST_CELLS = 1_000_000  # of a table with a cell for each pair of classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """Numbers of images by true and predicted class, in rising order of both."""

    num_classes: int
    true: Int64[Tensor, " n"]
    predicted: Int64[Tensor, " n"]
    num_images: Int64[Tensor, " n"]  # above 0

    @classmethod
    def of(cls, true: Int64[Tensor, " b"], predicted: Int64[Tensor, " b"], *, num_classes: int) -> "Confusion":
        """Counts pairs of classes, one an image."""
        pairs, counts = torch.unique(true * num_classes + predicted, return_counts=True)
        return cls(num_classes=num_classes, true=pairs // num_classes, predicted=pairs % num_classes, num_images=counts)

    @property
    def of_class(self) -> Int64[Tensor, " k"]:
        """Images of each true class."""
        return torch.zeros(self.num_classes, dtype=torch.int64).index_add_(0, self.true, self.num_images)

    @property
    def right(self) -> Int64[Tensor, " k"]:
        """Images of each class that were recognised."""
        is_right = self.true == self.predicted
        return torch.zeros(self.num_classes, dtype=torch.int64).index_add_(
            0, self.true[is_right], self.num_images[is_right]
        )

    def matrix(self) -> Int64[Tensor, "k k"]:
        """With a cell for each pair: true class, predicted class. For few classes."""
        cells = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        cells[self.true, self.predicted] = self.num_images
        return cells

    def taken_for(self, true: int) -> tuple[int, int] | None:
        """The wrong class for which a class was taken most, and how often; None where it never was."""
        is_wrong = (self.true == true) & (self.predicted != true)
        if not is_wrong.any():
            return None
        counts, predicted = self.num_images[is_wrong], self.predicted[is_wrong]
        most = int(counts.argmax())
        return int(predicted[most]), int(counts[most])

    def as_csv(self, name_of: Callable[[int], str]) -> str:
        """A table with a row a true class; with very many classes a row a pair that occurs."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if self.num_classes**2 > MOST_CELLS:
            rows.writerow(["true", "predicted", "images"])
            pairs = zip(self.true.tolist(), self.predicted.tolist(), self.num_images.tolist(), strict=True)
            rows.writerows([name_of(true), name_of(predicted), count] for true, predicted, count in pairs)
            return text.getvalue()
        names = [name_of(index) for index in range(self.num_classes)]
        rows.writerow(["true \\ predicted", *names])
        rows.writerows([name, *row] for name, row in zip(names, self.matrix().tolist(), strict=True))
        return text.getvalue()
