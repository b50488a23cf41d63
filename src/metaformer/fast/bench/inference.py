"""Inference, interleaved: every peer that is here and right, in turns."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from metaformer.fast.bench.peers import PEERS, YARDSTICK, bench_case
from metaformer.fast.contest import Applied, Cell, Rules, hold_contest
from metaformer.fast.trial import Trial
from metaformer.fast.verify import TOLERANCE

OURS, REFERENCE = "ours, optimized", "ours, eager"


@dataclass(frozen=True, kw_only=True)
class ContestResult:
    """All peers in one contest."""

    name: str
    batch_size: int
    side_px: int
    dtype: str
    cells: tuple[Cell, ...]
    trial: Trial | None = None  # that our optimized model was chosen by
    core_share: float | None = None  # of the time in which our threads wanted a core, they had one


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
    one = bench_case(name, batch_size=batch_size, image_size=image_size, dtype=dtype)
    chosen = [peer for peer in PEERS if peer in peers or peer == OURS]
    rules = Rules(
        base=OURS,
        allowed=TOLERANCE[dtype],
        unchecked=(YARDSTICK,),
        rounds=rounds,
        budget_s=budget_s,
        watch=watch,
    )
    with torch.no_grad():
        expected = one.model(one.example)
        makers = {peer: partial(PEERS[peer], one) for peer in chosen}
        outcome = hold_contest(
            makers, lambda call: float((call() - expected).abs().max() / expected.abs().max()), rules
        )
    ours = outcome.calls.get(OURS)
    return ContestResult(
        name=name,
        batch_size=batch_size,
        side_px=one.example.shape[-1],
        dtype=str(dtype).removeprefix("torch."),
        cells=tuple(outcome.cells.values()),
        trial=getattr(ours.model, "trial", None) if isinstance(ours, Applied) else None,
        core_share=outcome.core_share,
    )
