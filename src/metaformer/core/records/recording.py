"""What every measurement shares: its command, clock, place of origin, error, and the atomic write."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from metaformer.core.errors import ConfigError
from metaformer.core.machine import commit, this_machine, versions
from metaformer.core.records.envelope import RUN_FILE, Record
from metaformer.core.records.failure import Failure, failure_of
from metaformer.core.records.kinds import RECORDS

R = TypeVar("R")


class Recorder(Generic[R]):
    """Collects the result of a job, and makes its record."""

    def __init__(self, kind: type[R], *, name: str, config: dict[str, Any], command: str, seed: int | None) -> None:
        tag = RECORDS.name_of(kind)
        assert tag is not None, f"{kind.__name__} is no row of RECORDS"
        self._kind, self._seed = tag, seed
        # What a job is called and asked may only be known once it is under way.
        self.name, self.config, self.command = name, config, command
        self._started, self._clock = datetime.now(UTC), time.perf_counter()
        self.result: R | None = None
        self.record: Record[R] | None = None  # made when the block ends

    def finish(self, failure: Failure | None = None) -> Record[R]:
        """The record as of now."""
        self.record = Record(
            kind=self._kind,
            name=self.name,
            command=self.command,
            config=self.config,
            seed=self._seed,
            result=None if failure else self.result,
            failure=failure,
            machine=this_machine(),
            versions=versions(),
            commit=commit(),
            started=self._started.isoformat(timespec="seconds"),
            wall_time_s=time.perf_counter() - self._clock,
        )
        return self.record


@contextmanager
def recording(
    kind: type[R],
    *,
    name: str,
    config: dict[str, Any],
    command: str,
    out: Path | None = None,
    seed: int | None = None,
) -> Iterator[Recorder[R]]:
    """Times a job and writes its record when the block ends.

    The block sets `result`. If it raises instead, a record of the failure is written where none of a result lies yet,
    and the exception goes on; a request that was wrong leaves nothing.

    Args:
        kind: The class of result, a row of RECORDS.
        name: What is measured.
        config: Everything that decides the result, as JSON.
        command: The command that measures it again.
        out: Folder of the record; None writes nothing.
        seed: Of the job, where it has one.
    """
    recorder: Recorder[R] = Recorder(kind, name=name, config=config, command=command, seed=seed)
    try:
        yield recorder
    except ConfigError:
        raise
    except Exception as error:
        record = recorder.finish(failure_of(error))
        if out is not None and not (out / RUN_FILE).exists():
            # Where even the record cannot be written, the first error is the one to tell.
            with suppress(OSError):
                record.write(out)
        raise
    record = recorder.finish()
    if out is not None:
        record.write(out)
