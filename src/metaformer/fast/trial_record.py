"""The record of a trial: each way to run the model with its time, and why the others were dropped."""

from metaformer.core.records import Trial as TrialRecord
from metaformer.core.records import TrialWay
from metaformer.fast.trial import Trial, TrialRow


def trial_result(trial: Trial) -> TrialRecord:
    """The table of a trial, as its record holds it."""
    return TrialRecord(
        chosen=trial.chosen,
        is_cached=trial.cached,
        core_share=trial.core_share,
        ways=tuple(_way(row) for row in trial.rows),
    )


def _way(row: TrialRow) -> TrialWay:
    return TrialWay(
        name=row.name,
        time_ms=row.median_ms,
        spread_percent=None if row.spread is None else 100 * row.spread,
        speedup=row.speedup,
        largest_difference=row.difference,
        dropped=row.dropped,
    )
