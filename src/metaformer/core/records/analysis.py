"""The record of an analysis: what probes found on one or several models."""

from dataclasses import dataclass

from metaformer.core.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A probe that could not be applied."""

    probe: str
    reason: str  # one line


@dataclass(frozen=True, kw_only=True)
class Timed:
    """How long a probe took, and what the process held at most until its end."""

    probe: str
    wall_time_s: float
    memory_mib: float | None  # highest of the process so far; None where nobody knows


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What probes found."""

    models: tuple[str, ...]  # names, in the order of the panels
    data: str
    num_images: int
    measurements: tuple[Measurement, ...]
    skipped: tuple[Skipped, ...] = ()
    times: tuple[Timed, ...] = ()
