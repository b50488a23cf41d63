"""Inference, interleaved: every peer that is here and right, in turns."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from metaformer.core.errors import one_line
from metaformer.fast.bench.peers import PEERS, YARDSTICK, Call, Contest, contest
from metaformer.fast.candidates import NotHereError
from metaformer.fast.timing import Timing, interleave
from metaformer.fast.verify import TOLERANCE

OURS, REFERENCE = "ours, optimized", "ours, eager"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One peer in one contest."""

    peer: str
    timing: Timing | None = None  # of a batch; None if it was not timed
    ratio: float | None = None  # how many times as long as ours it takes, the median of rounds
    difference: float | None = None  # largest, of a class score, as a share of the largest score
    skipped: str | None = None  # why it was not timed


@dataclass(frozen=True, kw_only=True)
class ContestResult:
    """All peers in one contest."""

    name: str
    batch_size: int
    side_px: int
    dtype: str
    cells: tuple[Cell, ...]

    def best_opponent(self) -> Cell | None:
        """The fastest of those that compute the same function and are not ours."""
        others = [
            cell for cell in self.cells if cell.ratio and not cell.peer.startswith("ours") and cell.peer != YARDSTICK
        ]
        return min(others, key=lambda cell: cell.ratio or 0.0, default=None)


def share_of_peak(cell: Cell, result: ContestResult, macs: int, peak_gflops: float | None) -> float | None:
    """The multiply-adds that a peer makes in a second, over what the machine can make.

    Args:
        cell: The peer.
        result: The contest.
        macs: Of our model, for one image.
        peak_gflops: The machine's peak in float32; None if it is not known.

    Returns:
        None for another dtype than that of the peak, and for the yardstick, which has multiply-adds of its own.
    """
    if cell.timing is None or peak_gflops is None or result.dtype != "float32" or cell.peer == YARDSTICK:
        return None
    return 2 * macs * result.batch_size / cell.timing.median / (1e9 * peak_gflops)


def run_contest(
    name: str,
    *,
    batch_size: int,
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    peers: tuple[str, ...] = tuple(PEERS),
    rounds: int = 10,
    budget_s: float | None = None,
    watch: Callable[[str], None] = lambda _: None,
) -> ContestResult:
    """Builds the peers, compares their outputs with the plain model in float32, and times those that are right.

    Args:
        name: A model of the zoo.
        batch_size: Images at a time.
        image_size: Side in pixels; None is the model's own.
        dtype: What the peers compute in.
        peers: Names in PEERS; ours is always among them.
        rounds: How often each is timed.
        budget_s: No further round begins after so many seconds; 3 are always made.
        watch: Told what is done.
    """
    one = contest(name, batch_size=batch_size, image_size=image_size, dtype=dtype)
    chosen = [peer for peer in PEERS if peer in peers or peer == OURS]
    with torch.no_grad():
        expected = one.model(one.example)
        cells, calls = {}, {}
        for peer in chosen:
            watch(f"preparing {peer}")
            cells[peer], call = _prepared(peer, one, expected)
            if call is not None:
                calls[peer] = call
        timings = interleave(calls, rounds=rounds, budget_s=budget_s, watch=watch)
    for peer, timing in timings.items():
        ratio = timing.ratio_to(timings[OURS]) if OURS in timings else None
        cells[peer] = Cell(peer=peer, timing=timing, ratio=ratio, difference=cells[peer].difference)
    return ContestResult(
        name=name,
        batch_size=batch_size,
        side_px=one.example.shape[-1],
        dtype=str(dtype).removeprefix("torch."),
        cells=tuple(cells.values()),
    )


def _prepared(peer: str, one: Contest, expected: torch.Tensor) -> tuple[Cell, Call | None]:
    try:
        call = PEERS[peer](one)
        actual = call()
    except NotHereError as error:
        return Cell(peer=peer, skipped=str(error)), None
    # A peer that cannot be built must not keep the others from being measured.
    except Exception as error:
        return Cell(peer=peer, skipped=f"failed: {one_line(error, 200)}"), None
    if peer == YARDSTICK:
        return Cell(peer=peer), call
    difference = float((actual - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE[one.dtype]:
        return Cell(peer=peer, skipped=f"wrong by {difference:.1e}, allowed {TOLERANCE[one.dtype]:.0e}"), None
    return Cell(peer=peer, difference=difference), call
