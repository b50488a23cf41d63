"""What a bench and a timed trial leave behind."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrialWay:
    """One way to run a model on this machine."""

    name: str
    time_ms: float | None = None  # of a batch
    spread_percent: float | None = None
    speedup: float | None = None  # over the original
    largest_difference: float | None = None
    dropped: str | None = None  # why it is no candidate


@dataclass(frozen=True, kw_only=True)
class Trial:
    """All ways to run a model for one input, and the fastest."""

    chosen: str
    is_cached: bool  # from an earlier trial on this machine
    core_share: float | None = None  # of the time in which the threads wanted a core, they had one; None: unknown
    ways: tuple[TrialWay, ...]


@dataclass(frozen=True, kw_only=True)
class BenchPeer:
    """One way to run a model, in a contest."""

    name: str
    time_ms: float | None = None  # an image, median over rounds; None: see `skipped`
    spread_percent: float | None = None  # half the distance between the quartiles, of the median
    ratio_to_ours: float | None = None  # median over rounds of its time divided by ours
    share_of_peak_percent: float | None = None  # of the machine's multiply-adds
    peak_memory_mib: float | None = None  # of a training step
    largest_difference: float | None = None  # of a class score, as a share of the largest
    skipped: str | None = None  # why it was not timed
    is_opponent: bool = False  # computes the same function, and is not ours


@dataclass(frozen=True, kw_only=True)
class BenchContest:
    """One batch of one size in one dtype, run by all peers in turns."""

    phase: Literal["inference", "training"]
    batch_size: int
    side_px: int
    dtype: str
    peers: tuple[BenchPeer, ...]
    trial: Trial | None = None  # by which our optimized model was chosen

    @property
    def best_opponent(self) -> BenchPeer | None:
        """The fastest of those that compute the same function in inference and are not ours."""
        others = [one for one in self.peers if one.ratio_to_ours and one.is_opponent and self.phase == "inference"]
        return min(others, key=lambda one: one.ratio_to_ours or 0.0, default=None)

    def peer(self, name: str) -> BenchPeer | None:
        """What was measured of a peer that was timed."""
        return next((one for one in self.peers if one.name == name and one.time_ms is not None), None)


@dataclass(frozen=True, kw_only=True)
class BenchGrowth:
    """The time of one image against its size."""

    sides_px: tuple[int, ...]
    times_ms: tuple[float, ...]
    exponent: float  # of the time in the number of tokens


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A model beside other ways to run it."""

    macs: int  # of one image
    peak_gflops: float | None  # the machine's multiply-add peak in float32
    rounds: int
    contests: tuple[BenchContest, ...]
    growth: BenchGrowth | None = None

    def contest(self, phase: str, *, batch_size: int, side_px: int, dtype: str) -> BenchContest | None:
        """The contest of these settings."""
        wanted = (phase, batch_size, side_px, dtype)
        return next((c for c in self.contests if (c.phase, c.batch_size, c.side_px, c.dtype) == wanted), None)
