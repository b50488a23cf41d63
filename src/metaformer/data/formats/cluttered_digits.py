"""One scan of a digit on a larger canvas, among fragments of other scans; as in cluttered MNIST (arXiv:1406.6247)."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from metaformer.core.preprocessing import as_it_is
from metaformer.core.seeding import generator
from metaformer.data.batch_plan import Batch, BatchPlan, Images, Labels
from metaformer.data.formats.digits import SIDE_PX, _windows, load_scans
from metaformer.data.source import DataFacts, Unreadable, evaluation_batches_of, train_batches_of

CANVAS_PX = 11
FRAGMENT_PX = 4
NUM_FRAGMENTS = 4
# Canvases a scan: few for validation, which is run after every epoch.
VALIDATION_CANVASES, TEST_CANVASES = 1, 4


class ClutteredDigits:
    """Real scans, placed at random among pieces of others: where a digit is, and what is a digit, must be found out."""

    def __init__(self) -> None:
        self._scans = load_scans()
        self.unreadable: list[Unreadable] = []
        canvases, _ = _canvases(*self._scans.train, torch.arange(len(self._scans.train[1])), generator("statistics"))
        self._mean, self._std = float(canvases.mean()), float(canvases.std())
        self.facts = DataFacts(
            name="cluttered-digits",
            title="Cluttered digits",
            description=(
                f"A scan of a handwritten digit (UCI, {SIDE_PX}x{SIDE_PX} pixels) at a random place on a canvas of "
                f"{CANVAS_PX}x{CANVAS_PX}, among {NUM_FRAGMENTS} fragments of {FRAGMENT_PX}x{FRAGMENT_PX} pixels cut "
                "from other scans of the same split. 997 scans for training, placed anew each epoch; "
                f"300 for validation, on one fixed canvas each, and 500 for the test, on "
                f"{TEST_CANVASES}. No scan is in two splits."
            ),
            class_names=tuple("0123456789"),
            model_input=as_it_is((CANVAS_PX, CANVAS_PX), mean=(self._mean,), std=(self._std,)),
            num_train=len(self._scans.train[1]),
            num_validation=VALIDATION_CANVASES * len(self._scans.validation[1]),
            num_test=TEST_CANVASES * len(self._scans.test[1]),
            fingerprint="cluttered-digits",
        )

    def train_batches(self, plan: BatchPlan) -> Iterator[Batch]:
        return train_batches_of(*self.train_epoch(seed=plan.seed, epoch=plan.epoch), plan)

    def evaluation_batches(
        self, split: str, *, batch_size: int = 250, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        images, labels = self.test() if split == "test" else self.validation()
        return evaluation_batches_of(images, labels, batch_size=batch_size, rank=rank, world_size=world_size)

    def train_epoch(self, *, seed: int, epoch: int) -> tuple[Images, Labels]:
        """Every training scan once, in random order, each on a new canvas."""
        random = generator(self.facts.name, seed, epoch)
        scans, labels = self._scans.train
        order = torch.randperm(len(labels), generator=random)
        return self._normalise(*_canvases(scans, labels, order, random))

    def validation(self) -> tuple[Images, Labels]:
        """Every validation scan on fixed canvases."""
        return self._fixed(*self._scans.validation, "validation", VALIDATION_CANVASES)

    def test(self) -> tuple[Images, Labels]:
        """Every test scan on fixed canvases."""
        return self._fixed(*self._scans.test, "test", TEST_CANVASES)

    def _fixed(
        self, scans: Float[Tensor, "k 8 8"], labels: Int64[Tensor, " k"], split: str, num_canvases: int
    ) -> tuple[Images, Labels]:
        chosen = torch.arange(len(labels)).repeat(num_canvases)
        return self._normalise(*_canvases(scans, labels, chosen, generator(self.facts.name, split)))

    def _normalise(self, canvases: Float[Tensor, "n s s"], labels: Labels) -> tuple[Images, Labels]:
        return ((canvases - self._mean) / self._std).unsqueeze(1), labels


def _canvases(
    scans: Float[Tensor, "k 8 8"], labels: Int64[Tensor, " k"], chosen: Int64[Tensor, " n"], random: torch.Generator
) -> tuple[Float[Tensor, "n s s"], Labels]:
    """Canvases with the chosen scans on them; fragments come from all scans."""
    num = len(chosen)
    canvases = torch.zeros(num, CANVAS_PX, CANVAS_PX)
    for _ in range(NUM_FRAGMENTS):
        source = scans[torch.randint(0, len(scans), (num,), generator=random)]
        corners = torch.randint(0, SIDE_PX - FRAGMENT_PX + 1, (2, num), generator=random)
        _draw(canvases, _windows(source, corners, FRAGMENT_PX), random)
    _draw(canvases, scans[chosen], random)
    return canvases, labels[chosen]


def _draw(canvases: Float[Tensor, "n s s"], pieces: Float[Tensor, "n p p"], random: torch.Generator) -> None:
    """Draws a piece at a random place of each canvas, over what is there."""
    num, side_px = len(pieces), pieces.shape[-1]
    steps = torch.arange(side_px)
    corners = torch.randint(0, CANVAS_PX - side_px + 1, (2, num), generator=random)
    rows = (corners[0, :, None] + steps)[:, :, None]
    columns = (corners[1, :, None] + steps)[:, None, :]
    canvases[torch.arange(num)[:, None, None], rows, columns] = pieces
