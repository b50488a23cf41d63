"""The contract of a data source."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor

Images = Float[Tensor, "n c h w"]
Labels = Int64[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What a model and a report need to know of a data set."""

    name: str
    title: str
    description: str  # a few sentences for the report: what the images are, how the splits were made
    class_names: tuple[str, ...]
    in_chans: int
    image_size: tuple[int, int]  # height and width, in pixels
    mean: tuple[float, ...]  # per channel, of training pixels in [0, 1]
    std: tuple[float, ...]
    num_train: int  # images an epoch
    num_validation: int
    num_test: int


@runtime_checkable
class DataSource(Protocol):
    """Images that fit into memory, in three splits, normalised.

    Choices are made on the validation split; the test split is read once a run.
    """

    facts: DataFacts

    def train_epoch(self, *, seed: int, epoch: int) -> tuple[Images, Labels]:
        """One epoch of training images, augmented and in their order; decided by seed and epoch alone."""
        ...

    def validation(self) -> tuple[Images, Labels]:
        """The images to choose by."""
        ...

    def test(self) -> tuple[Images, Labels]:
        """The images to report on."""
        ...
