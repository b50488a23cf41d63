"""The run record: what every command that measures leaves behind, and all that a report may read."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaformer.core.atomic_write import write_json
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError, DataError

RUN_FILE = "run.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured number."""

    value: float
    unit: str  # "%", "images/s", "s", "parameters", "MACs", ...


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run: what was asked, where it ran, what came out."""

    kind: str  # "train", "profile", ...
    name: str  # what is compared: the variant's name
    command: str  # the command that makes this number again
    config: dict[str, Any]  # everything that decides the result
    seed: int | None
    metrics: dict[str, Metric]
    history: dict[str, list[float]] = field(default_factory=dict)  # one list a column, one value an epoch
    labels: dict[str, Any] = field(default_factory=dict)  # facts that are not numbers of this run
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    started: str  # ISO 8601, UTC
    wall_time_s: float
    error: str | None = None  # why the run failed; then metrics are what was reached before
    schema: int = SCHEMA

    def write(self, folder: Path) -> Path:
        """Writes `run.json` into the folder, whole or not at all."""
        target = folder / RUN_FILE
        write_json(target, to_dict(self))
        return target


def read_run_record(path: Path) -> RunRecord:
    """Reads `run.json`, given the file or its folder.

    Raises:
        DataError: The file is missing, unreadable or not a run record.
    """
    target = path / RUN_FILE if path.is_dir() else path
    values = read_json(target)
    try:
        return from_dict(RunRecord, values)
    except ConfigError as error:
        raise DataError(f"{target} is not a run record: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: The file is missing, unreadable or does not hold an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"cannot read {path}: expected a JSON object, got {type(values).__name__}")
    return values
