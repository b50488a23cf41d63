"""Records: what every command that measures leaves behind, and all that a report may read."""

from metaformer.core.records.analysis import Analysis, Skipped, Timed
from metaformer.core.records.envelope import (
    RUN_FILE,
    SCHEMA,
    Record,
    read_json,
    read_record,
    record_from_json,
)
from metaformer.core.records.failure import Failure, FailureKind, failure_of
from metaformer.core.records.kinds import RECORDS
from metaformer.core.records.recording import Recorder, recording
from metaformer.core.records.speed import Bench, BenchContest, BenchGrowth, BenchPeer, Trial, TrialWay
from metaformer.core.records.study import (
    Card,
    Check,
    CostSeries,
    Exponent,
    Scaling,
    SizeCost,
    Speed,
    Spread,
    Study,
    StudyData,
    TriedRate,
    TunedVariant,
    Tuning,
    Variant,
    VariantSpeed,
)
from metaformer.core.records.training import Evaluation, History, ModelCost, Training, UnreadableImage

__all__ = [
    "RECORDS",
    "RUN_FILE",
    "SCHEMA",
    "Analysis",
    "Bench",
    "BenchContest",
    "BenchGrowth",
    "BenchPeer",
    "Card",
    "Check",
    "CostSeries",
    "Evaluation",
    "Exponent",
    "Failure",
    "FailureKind",
    "History",
    "ModelCost",
    "Record",
    "Recorder",
    "Scaling",
    "SizeCost",
    "Skipped",
    "Speed",
    "Spread",
    "Study",
    "StudyData",
    "Timed",
    "Training",
    "Trial",
    "TrialWay",
    "TriedRate",
    "TunedVariant",
    "Tuning",
    "UnreadableImage",
    "Variant",
    "VariantSpeed",
    "failure_of",
    "read_json",
    "read_record",
    "record_from_json",
    "recording",
]
