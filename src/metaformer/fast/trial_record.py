"""The run record of a trial: each way to run the model with its time, and why the others were dropped."""

from datetime import datetime
from pathlib import Path
from typing import Any

from metaformer.core.machine import provenance
from metaformer.core.run_record import Metric, RunRecord
from metaformer.fast.trial import Trial


def write_trial(
    folder: Path,
    trial: Trial,
    *,
    name: str,
    settings: dict[str, Any],
    command: str,
    started: datetime,
    wall_time_s: float,
) -> Path:
    """Writes run.json.

    Args:
        folder: Made if it is not there.
        trial: The table.
        name: The model.
        settings: What was asked for.
        command: The command that measures it again.
        started: When.
        wall_time_s: How long it took.
    """
    metrics: dict[str, Metric] = {}
    for row in trial.rows:
        numbers = {
            "time": (row.median_ms, "ms/batch"),
            "spread": (None if row.spread is None else 100 * row.spread, "%"),
            "speedup": (row.speedup, "times"),
            "largest_difference": (row.difference, "of the largest score"),
        }
        for what, (value, unit) in numbers.items():
            if value is not None:
                metrics[f"{row.name}/{what}"] = Metric(value=value, unit=unit)
    dropped = {row.name: row.dropped for row in trial.rows if row.dropped is not None}
    return RunRecord(
        kind="optimize",
        name=name,
        command=command,
        config=settings,
        seed=0,
        metrics=metrics,
        labels={"chosen": trial.chosen, "from_an_earlier_trial": trial.cached, "dropped": dropped},
        **provenance(started),
        wall_time_s=wall_time_s,
    ).write(folder)
