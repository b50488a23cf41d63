"""What happens while a study runs, and who makes it happen."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from metaformer.train.config import Run
from metaformer.train.divergence import DivergedError


def reason_of(error: Exception) -> str:
    """Why a run failed, as its record says it."""
    return f"{type(error).__name__}: {error}"


def is_divergence(reason: str | None) -> bool:
    """Whether a run failed because it diverged, which it would do again: that is its result."""
    return bool(reason) and str(reason).startswith(f"{DivergedError.__name__}: ")


@dataclass(frozen=True, kw_only=True)
class StudyEvent:
    """Something that a person who watches wants to know."""

    # "skipped" (was finished before), "started", "epoch", "lost" (with its machine; tried again), "finished", "failed"
    kind: str
    run: Run
    epoch: int = 0  # how many are done
    validation_accuracy: float | None = None  # percent
    images_per_second: float | None = None  # in training
    reason: str = ""  # why a run failed, in this session or, where it was skipped, before


@runtime_checkable
class Executor(Protocol):
    """Performs runs side by side. Every run ends in one event, "finished" or "failed", and leaves a record."""

    def perform(self, runs: Sequence[Run], out: Path, *, command: str) -> Generator[StudyEvent, None, None]:
        """Starts runs in their order; closing the iterator stops those that are under way."""
        ...
