"""The embedded data: 1,797 scans of handwritten digits, plain or hidden among fragments of others.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998), as
shipped with scikit-learn: 8x8 pixels, 17 grey levels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from metaformer.core.errors import MissingExtraError
from metaformer.core.preprocessing import as_it_is
from metaformer.core.seeding import generator
from metaformer.data.batch_plan import Batch, BatchPlan, Images, Labels
from metaformer.data.class_shares import interleave_classes
from metaformer.data.source import DataFacts, Unreadable, evaluation_batches_of, train_batches_of

SIDE_PX = 8  # of a scan
NUM_TRAIN, NUM_VALIDATION = 997, 300  # scans; the other 500 are the test split
SPLIT_KEY = "digits split"

Scans = Float[Tensor, "n 8 8"]
# The splits of one object differ in length.
Split = tuple[Float[Tensor, "_ 8 8"], Int64[Tensor, " _"]]


@dataclass(frozen=True, kw_only=True)
class DigitScans:
    """Scans in three splits that share no scan; every class has its share of each."""

    train: Split
    validation: Split
    test: Split


def load_scans() -> DigitScans:
    """The scans, with pixels in [0, 1], split once and for all."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError(need="the embedded digits", extra="train") from None
    pixels, classes = load_digits(return_X_y=True)
    scans = torch.from_numpy(pixels).float().reshape(-1, SIDE_PX, SIDE_PX) / 16
    labels = torch.from_numpy(classes).long()
    order = interleave_classes(labels, SPLIT_KEY)
    parts = order.split([NUM_TRAIN, NUM_VALIDATION, len(order) - NUM_TRAIN - NUM_VALIDATION])
    train, validation, test = ((scans[part], labels[part]) for part in parts)
    return DigitScans(train=train, validation=validation, test=test)


class Digits:
    """Plain scans, enlarged to twice their side: an easy task, for first steps.

    Training images are shifted by up to two pixels.
    """

    def __init__(self) -> None:
        self._scans = load_scans()
        self.unreadable: list[Unreadable] = []
        train = _enlarge(self._scans.train[0])
        self._mean, self._std = float(train.mean()), float(train.std())
        self.facts = DataFacts(
            name="digits",
            title="Handwritten digits",
            description=(
                "Scans of handwritten digits (UCI), enlarged to 16x16 pixels. 997 scans for training, shifted by up to "
                "two pixels, 300 for validation, 500 for the test; no scan is in two splits."
            ),
            class_names=tuple("0123456789"),
            model_input=as_it_is((2 * SIDE_PX, 2 * SIDE_PX), mean=(self._mean,), std=(self._std,)),
            num_train=len(self._scans.train[1]),
            num_validation=len(self._scans.validation[1]),
            num_test=len(self._scans.test[1]),
            fingerprint="digits",
        )

    def train_batches(self, plan: BatchPlan) -> Iterator[Batch]:
        return train_batches_of(*self.train_epoch(seed=plan.seed, epoch=plan.epoch), plan)

    def evaluation_batches(
        self, split: str, *, batch_size: int = 250, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        images, labels = self.test() if split == "test" else self.validation()
        return evaluation_batches_of(images, labels, batch_size=batch_size, rank=rank, world_size=world_size)

    def train_epoch(self, *, seed: int, epoch: int) -> tuple[Images, Labels]:
        """The training scans in random order, each shifted."""
        random = generator(self.facts.name, seed, epoch)
        scans, labels = self._scans.train
        order = torch.randperm(len(labels), generator=random)
        shift_px = torch.randint(0, 5, (2, len(labels)), generator=random)
        padded = F.pad(_enlarge(scans[order]), (2, 2, 2, 2))
        return self._normalise(_windows(padded, shift_px, 2 * SIDE_PX)), labels[order]

    def validation(self) -> tuple[Images, Labels]:
        """The validation scans."""
        scans, labels = self._scans.validation
        return self._normalise(_enlarge(scans)), labels

    def test(self) -> tuple[Images, Labels]:
        """The test scans."""
        scans, labels = self._scans.test
        return self._normalise(_enlarge(scans)), labels

    def _normalise(self, images: Float[Tensor, "n h w"]) -> Images:
        return ((images - self._mean) / self._std).unsqueeze(1)


def _enlarge(scans: Scans) -> Float[Tensor, "n 16 16"]:
    return F.interpolate(scans.unsqueeze(1), scale_factor=2, mode="bilinear", align_corners=False).squeeze(1)


def _windows(images: Float[Tensor, "n h w"], corners: Int64[Tensor, "2 n"], side_px: int) -> Float[Tensor, "n s s"]:
    """From each image the square window whose top left corner is given."""
    steps = torch.arange(side_px)
    rows = (corners[0, :, None] + steps)[:, :, None]
    columns = (corners[1, :, None] + steps)[:, None, :]
    return images[torch.arange(len(images))[:, None, None], rows, columns]
