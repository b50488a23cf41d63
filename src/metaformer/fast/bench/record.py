"""The record of a bench: every number with its unit, and why the missing ones are missing."""

from collections.abc import Sequence

from metaformer.core.records import Bench, BenchContest, BenchGrowth, BenchPeer
from metaformer.fast.bench.inference import ContestResult, share_of_peak
from metaformer.fast.bench.peers import YARDSTICK
from metaformer.fast.bench.scaling import Scaling
from metaformer.fast.bench.training import TrainingResult
from metaformer.fast.contest import Cell
from metaformer.fast.trial_record import trial_result


def bench_result(
    results: Sequence[ContestResult | TrainingResult],
    scaling: Scaling | None,
    *,
    macs: int,
    peak_gflops: float | None,
    rounds: int,
) -> Bench:
    """What a bench leaves behind.

    Args:
        results: Of inference, and of training steps.
        scaling: Time against tokens, where it was measured.
        macs: Of one image.
        peak_gflops: The machine's multiply-add peak in float32.
        rounds: How often each was timed.
    """
    return Bench(
        macs=macs,
        peak_gflops=peak_gflops,
        rounds=rounds,
        contests=tuple(contest_record(result, macs, peak_gflops) for result in results),
        growth=None
        if scaling is None
        else BenchGrowth(
            sides_px=scaling.sides_px,
            times_ms=tuple(1e3 * timing.median for timing in scaling.timings),
            exponent=scaling.exponent,
        ),
    )


def contest_record(result: ContestResult | TrainingResult, macs: int, peak_gflops: float | None) -> BenchContest:
    """One contest of the record; MACs of one image, the machine's peak in float32."""
    trial = result.trial if isinstance(result, ContestResult) else None
    return BenchContest(
        phase="training" if isinstance(result, TrainingResult) else "inference",
        batch_size=result.batch_size,
        side_px=result.side_px,
        dtype=result.dtype,
        peers=tuple(_peer(cell, result, macs, peak_gflops) for cell in result.cells),
        trial=trial_result(trial) if trial else None,
    )


def _peer(cell: Cell, result: ContestResult | TrainingResult, macs: int, peak_gflops: float | None) -> BenchPeer:
    share = share_of_peak(cell, result, macs, peak_gflops) if isinstance(result, ContestResult) else None
    return BenchPeer(
        name=cell.peer,
        time_ms=None if cell.timing is None else 1e3 * cell.timing.median / result.batch_size,
        spread_percent=None if cell.timing is None else 100 * cell.timing.spread,
        ratio_to_ours=cell.ratio,
        share_of_peak_percent=None if share is None else 100 * share,
        peak_memory_mib=result.peak_mib.get(cell.peer) if isinstance(result, TrainingResult) else None,
        largest_difference=cell.difference,
        skipped=cell.skipped,
        is_opponent=not cell.peer.startswith("ours") and cell.peer != YARDSTICK,
    )
