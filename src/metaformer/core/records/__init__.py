"""Records: what every command that measures leaves behind, and all that a report may read."""

from metaformer.core.records.envelope import (
    RECORDS,
    RUN_FILE,
    SCHEMA,
    Record,
    read_json,
    read_record,
    record_from_json,
)
from metaformer.core.records.failure import Failure, FailureKind, failure_of
from metaformer.core.records.recording import Recorder, recording

__all__ = [
    "Failure",
    "FailureKind",
    "RECORDS",
    "RUN_FILE",
    "Record",
    "Recorder",
    "SCHEMA",
    "failure_of",
    "read_json",
    "read_record",
    "record_from_json",
    "recording",
]
