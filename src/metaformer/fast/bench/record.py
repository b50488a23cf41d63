"""The run record of a bench: every number with its unit, and why the missing ones are missing."""

from datetime import datetime
from pathlib import Path
from typing import Any

from metaformer.core.configs import to_dict
from metaformer.core.machine import provenance
from metaformer.core.run_record import Metric, RunRecord
from metaformer.fast.bench.inference import ContestResult, share_of_peak
from metaformer.fast.bench.scaling import Scaling
from metaformer.fast.bench.training import TrainingResult


def write_bench(
    folder: Path,
    *,
    name: str,
    contests: list[ContestResult],
    training: list[TrainingResult],
    scaling: Scaling | None,
    macs: int,
    peak_gflops: float | None,
    settings: dict[str, Any],
    command: str,
    started: datetime,
    wall_time_s: float,
) -> Path:
    """Writes run.json.

    Args:
        folder: Made if it is not there.
        name: The model.
        contests: Inference.
        training: Training steps.
        scaling: Time against tokens, where it was measured.
        macs: Of one image.
        peak_gflops: The machine's multiply-add peak in float32.
        settings: What was asked for.
        command: The command that measures it again.
        started: When.
        wall_time_s: How long it took.
    """
    metrics: dict[str, Metric] = {}
    skipped: dict[str, str] = {}
    trials: dict[str, Any] = {}
    results: list[ContestResult | TrainingResult] = [*contests, *training]
    for result in results:
        kind = "training" if isinstance(result, TrainingResult) else "inference"
        place = f"{kind}/batch {result.batch_size}/{result.side_px} px/{result.dtype}"
        if isinstance(result, ContestResult) and result.trial is not None:
            trials[place] = to_dict(result.trial)
        for cell in result.cells:
            at = f"{place}/{cell.peer}"
            if cell.skipped is not None:
                skipped[at] = cell.skipped
            if cell.timing is not None:
                metrics[f"{at}/time"] = Metric(value=1e3 * cell.timing.median / result.batch_size, unit="ms/image")
                metrics[f"{at}/spread"] = Metric(value=100 * cell.timing.spread, unit="%")
            if cell.ratio is not None:
                metrics[f"{at}/ratio_to_ours"] = Metric(value=cell.ratio, unit="times")
            if cell.difference is not None:
                metrics[f"{at}/largest_difference"] = Metric(value=cell.difference, unit="of the largest score")
            share = share_of_peak(cell, result, macs, peak_gflops) if isinstance(result, ContestResult) else None
            if share is not None:
                metrics[f"{at}/share_of_peak"] = Metric(value=100 * share, unit="%")
        if isinstance(result, TrainingResult):
            for who, mib in result.peak_mib.items():
                metrics[f"{place}/{who}/peak_memory"] = Metric(value=mib, unit="MiB")
    if scaling is not None:
        metrics["cost_exponent"] = Metric(value=scaling.exponent, unit="power of the tokens")
        for side, timing in zip(scaling.sides_px, scaling.timings, strict=True):
            metrics[f"scaling/{side} px/time"] = Metric(value=1e3 * timing.median, unit="ms/image")
    if peak_gflops is not None:
        metrics["multiply_add_peak"] = Metric(value=peak_gflops, unit="GFLOP/s")
    return RunRecord(
        kind="bench",
        name=name,
        command=command,
        config=settings,
        seed=0,
        metrics=metrics,
        labels={"skipped": skipped, "trials": trials},
        **provenance(started),
        wall_time_s=wall_time_s,
    ).write(folder)
