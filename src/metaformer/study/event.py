"""What happens while a study runs, and who makes it happen."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from metaformer.core.records import Failure
from metaformer.train.config import Run


@dataclass(frozen=True, kw_only=True)
class StudyEvent:
    """Something that a person who watches wants to know."""

    # skipped: was finished before; lost: with its machine, and is tried again
    kind: Literal["skipped", "started", "epoch", "lost", "finished", "failed"]
    run: Run
    epoch: int = 0  # how many are done
    validation_accuracy: float | None = None  # percent
    images_per_second: float | None = None  # in training
    failure: Failure | None = None  # of a run that failed, in this session or, where it was skipped, before


@runtime_checkable
class Executor(Protocol):
    """Performs runs side by side. Every run ends in one event, "finished" or "failed", and leaves a record."""

    def perform(self, runs: Sequence[Run], out: Path, *, command: str) -> Generator[StudyEvent, None, None]:
        """Starts runs in their order; closing the iterator stops those that are under way."""
        ...
