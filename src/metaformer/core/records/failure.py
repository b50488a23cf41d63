"""Why a job has no result: a kind that programs act on, and a message that people read."""

from dataclasses import dataclass
from typing import Literal, get_args

from metaformer.core.errors import ConfigError, DataError, one_line

# "diverged" is a result: the same settings would diverge again. The others may go well another time.
FailureKind = Literal["diverged", "out_of_memory", "disk", "data", "settings", "interrupted", "lost_process", "error"]
KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a job has no result."""

    kind: FailureKind
    message: str  # one line

    @property
    def is_final(self) -> bool:
        """Whether the same job would end the same way again."""
        return self.kind == "diverged"


def failure_of(error: BaseException) -> Failure:
    """What an exception says about the job that it ended.

    A class of exceptions names its kind in an attribute `failure_kind`; otherwise its type decides.
    """
    kind = getattr(error, "failure_kind", None)
    if kind not in KINDS:
        kind = _kind_by_type(error)
    return Failure(kind=kind, message=one_line(error))


def _kind_by_type(error: BaseException) -> FailureKind:
    by_type: tuple[tuple[type[BaseException], FailureKind], ...] = (
        (KeyboardInterrupt, "interrupted"),
        (MemoryError, "out_of_memory"),
        (DataError, "data"),
        (ConfigError, "settings"),
        (OSError, "disk"),
    )
    return next((kind for cls, kind in by_type if isinstance(error, cls)), "error")
