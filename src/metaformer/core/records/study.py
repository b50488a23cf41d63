"""What a study and its parts leave behind: the study itself, speed, scaling, tuning, and the card of a mixer."""

from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of a study, as a reader meets it."""

    name: str  # folder and command line
    title: str
    change: str  # what differs from the base, in words
    paper_top1_percent: float | None = None  # ImageNet-1K, S12
    paper_note: str = ""  # where that figure stands, or how its setting differs
    paper_same_size: bool = True  # that figure is of a model of the base's size: their difference says something
    # A negative control: expected to fail, so its spread over seeds says nothing about the others'.
    control: bool = False


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """The data of a study."""

    name: str
    title: str
    description: str
    num_train: int
    num_validation: int
    num_test: int
    num_classes: int
    chance_accuracy_percent: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """One base, one thing varied, several seeds; each run has a record of its own."""

    title: str
    question: str
    base: str  # the variant that the others are compared with
    data: StudyData
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    samples_png: str | None = None  # a few images, as base64

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names) or not names:
            raise ValueError("its variants must be at least one, with different names.")
        if self.base not in names:
            raise ValueError(f"its base {self.base!r} is not one of its variants.")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The middle of some measurements, and how far they reach."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class VariantSpeed:
    """Inference of one variant's model."""

    name: str
    latency_ms: Spread  # of one batch, over rounds
    memory_mib: float  # at most


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Inference of a study's models, all in turn."""

    batch_size: int
    num_threads: int
    cpu_share: float | None  # of the measured time, what the measurement itself had of the processor
    variants: tuple[VariantSpeed, ...]


@dataclass(frozen=True, kw_only=True)
class Exponent:
    """A power of the number of tokens: the median over rounds, and its interval."""

    value: float
    low: float
    high: float
    fitted_tokens: tuple[int, ...]  # the sizes that it rests on


@dataclass(frozen=True, kw_only=True)
class SizeCost:
    """Something at one size: what does not vary from call to call, and the time of a call in each round."""

    num_tokens: int
    params: int  # trained
    frozen: int
    macs: int
    memory_mib: float  # at most, in a forward pass, weights included
    times_ms: tuple[float, ...] = ()

    @property
    def time_ms(self) -> float | None:
        """The median over rounds."""
        return median(self.times_ms) if self.times_ms else None


@dataclass(frozen=True, kw_only=True)
class CostSeries:
    """A token mixer, alone or in a whole model, at several sizes."""

    name: str
    level: Literal["mixer", "model"]
    points: tuple[SizeCost, ...]
    time_exponent: Exponent | None  # None: fixed overhead dominates at every size
    macs_exponent: float | None
    params_exponent: float | None
    memory_exponent: float | None


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How cost grows with the number of tokens."""

    batch_size: int
    num_threads: int
    num_rounds: int
    cpu_share: float | None
    series: tuple[CostSeries, ...]


@dataclass(frozen=True, kw_only=True)
class TriedRate:
    """A learning rate, and what came out."""

    lr: float
    epochs: int
    validation_accuracy_percent: float | None  # None: the run failed


@dataclass(frozen=True, kw_only=True)
class TunedVariant:
    """The learning rate that was chosen for one variant."""

    name: str
    recipe_lr: float
    lr: float
    tried: tuple[TriedRate, ...]
    at_edge: bool  # beyond the grid there may be a better one


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A learning rate for each variant, chosen on the validation split."""

    variants: tuple[TunedVariant, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One promise of a token mixer, and whether it is kept."""

    id: str
    name: str
    status: Literal["pass", "fail", "note"]  # note: allowed, and worth knowing
    detail: str = ""  # the failing example


@dataclass(frozen=True, kw_only=True)
class Card:
    """The report card of a token mixer; accuracy and cost have records of their own beside it."""

    title: str
    source_sha256: str | None  # of the file that the mixer comes from
    checks: tuple[Check, ...]
    shown_tokens: tuple[int, ...]  # sizes that the page shows
    dim: int  # channels of the mixers whose cost was measured

    @property
    def num_kept(self) -> int:
        """Promises that are not broken."""
        return sum(check.status != "fail" for check in self.checks)
