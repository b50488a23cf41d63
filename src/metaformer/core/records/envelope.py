"""The envelope of every record: what was asked, where it ran, when, and what came out or why nothing did.

What came out is a frozen dataclass of its own for each kind of record, a row of `RECORDS`: whoever measures fills it,
whoever reads gets it back by the kind.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from metaformer.core.atomic_write import write_json
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.machine import Machine
from metaformer.core.records.failure import Failure
from metaformer.core.records.kinds import RECORDS
from metaformer.core.records.units import check_numbers

RUN_FILE = "run.json"
SCHEMA = 2
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Record(Generic[R]):
    """One job and its result."""

    kind: str  # a row of RECORDS
    name: str  # what is compared: the variant's name, the model's
    command: str  # the command that makes this result again
    config: dict[str, Any]  # everything that decides the result, as JSON
    seed: int | None
    result: R | None  # None: see `failure`
    failure: Failure | None = None
    machine: Machine
    versions: dict[str, str]
    commit: str | None
    started: str  # ISO 8601, UTC
    wall_time_s: float
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if (self.result is None) == (self.failure is None):
            raise ConfigError("a record holds either a result or a failure")
        if self.result is not None and not isinstance(self.result, RECORDS[self.kind]):
            raise ConfigError(f"a record of kind {self.kind!r} cannot hold a {type(self.result).__name__}")

    @property
    def measured(self) -> R:
        """The result, where there must be one.

        Raises:
            DataError: The job failed.
        """
        if self.result is None:
            reason = self.failure.message if self.failure else "no result"
            raise DataError(f"{self.name!r} has no result: {reason}")
        return self.result

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values that `record_from_json` reads."""
        envelope = _Envelope(**{name: getattr(self, name) for name in _FIELDS})
        return to_dict(envelope) | {"result": None if self.result is None else to_dict(self.result)}

    def write(self, folder: Path) -> Path:
        """Writes `run.json` into the folder, whole or not at all."""
        target = folder / RUN_FILE
        write_json(target, self.to_json())
        return target


@dataclass(frozen=True, kw_only=True)
class _Envelope:
    """All of a record but its result, as it is read."""

    kind: str
    name: str
    command: str
    config: dict[str, Any]
    seed: int | None
    failure: Failure | None = None
    machine: Machine
    versions: dict[str, str]
    commit: str | None
    started: str
    wall_time_s: float
    schema: int


_FIELDS = tuple(_Envelope.__dataclass_fields__)


def record_from_json(values: dict[str, Any], kind: type[R] | None = None, *, place: str = "the record") -> Record[R]:
    """The record that `Record.to_json` wrote.

    Args:
        values: Plain JSON values.
        kind: The class of result that is expected; None takes any.
        place: Where the values come from, for messages.

    Raises:
        DataError: The values are no record, or one of another kind.
    """
    try:
        envelope = from_dict(_Envelope, {key: value for key, value in values.items() if key != "result"})
        if envelope.schema != SCHEMA:
            raise ConfigError(f"its schema is {envelope.schema}; this version reads {SCHEMA}.")
        cls = RECORDS[envelope.kind]
        if kind is not None and cls is not kind:
            raise ConfigError(f"it is of kind {envelope.kind!r}, not {RECORDS.name_of(kind)!r}.")
        result = values.get("result")
        body = None if result is None else from_dict(cls, result)
        check_numbers(envelope.wall_time_s, "wall_time_s")
        check_numbers(body, cls.__name__)
        return Record(result=cast(R | None, body), **{name: getattr(envelope, name) for name in _FIELDS})
    except ConfigError as error:
        raise DataError(f"{place} is not what was expected: {error}") from None


def read_record(path: Path, kind: type[R] | None = None) -> Record[R]:
    """Reads a record, given its file or the folder that holds `run.json`.

    Args:
        path: The file or folder.
        kind: The class of result that is expected; None takes any.

    Raises:
        DataError: The file is missing, unreadable, no record, or one of another kind.
    """
    target = path / RUN_FILE if path.is_dir() else path
    return record_from_json(read_json(target), kind, place=str(target))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: The file is missing, unreadable or does not hold an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    # A number of 5,000 digits raises a plain ValueError.
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"cannot read {path}: expected a JSON object, got {type(values).__name__}")
    return values


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number of JSON")
