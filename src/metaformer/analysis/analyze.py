"""Runs probes one after the other, and keeps each that is finished."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from metaformer.analysis.probe import Exhibit, Inputs, Journal, NotApplicableError, Probe
from metaformer.analysis.table import ON_REQUEST, PROBES
from metaformer.core.atomic_write import write_json
from metaformer.core.configs import from_dict, parse_configs, tag_of, to_dict
from metaformer.core.errors import ConfigError, DataError, one_line
from metaformer.core.measurement import Measurement
from metaformer.core.memory import highest_memory_mib
from metaformer.core.records import read_json
from metaformer.core.records.analysis import Analysis, Skipped, Timed

FOLDER = "probes"  # of finished and unfinished probes, inside the folder of the analysis
Watch = Callable[[str, int, int], None]  # name of a probe, steps done, steps in all


def parse_probes(text: str) -> tuple[Probe, ...]:
    """The probes written as `all`, those of `ON_REQUEST` left out, or as `rank_collapse,curvature(batch_size=4)`.

    Raises:
        ConfigError: The text does not have that form, or names nothing known.
    """
    if text != "all":
        return parse_configs(text, PROBES)
    return tuple(cls() for name, cls in PROBES.items() if name not in ON_REQUEST)


def run_probes(
    exhibits: Sequence[Exhibit],
    inputs: Inputs,
    probes: Sequence[Probe],
    *,
    data: str = "",
    out: Path | None = None,
    settings: Any = None,
    skip: bool = False,
    watch: Watch | None = None,
) -> Analysis:
    """Measures models by probes.

    A probe that is finished is kept in the folder, and is not measured again by a call with the same settings.

    Args:
        exhibits: The models, in the order in which they are shown.
        inputs: What they are shown.
        probes: In this order; each name once.
        data: Where the images come from, for the record.
        out: Folder; None keeps nothing.
        settings: What else decides the results, as JSON: models and data. Kept results of other settings are left out.
        skip: Whether a probe that cannot be applied to these models is skipped, and said so.
        watch: Called with the name of a probe, and how many of its steps are done.

    Raises:
        ConfigError: A probe cannot be applied and is not to be skipped; or two models have one name.
    """
    names = tuple(exhibit.name for exhibit in exhibits)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"models need names of their own; got {', '.join(names) or 'no model'}.")
    was_training = {module: module.training for exhibit in exhibits for module in exhibit.model.modules()}
    found: list[Measurement] = []
    skipped: list[Skipped] = []
    times: list[Timed] = []
    try:
        for exhibit in exhibits:
            exhibit.model.eval()
        for probe in probes:
            name = tag_of(probe, PROBES)
            kept = _Kept(out, name, {"probe": to_dict(probe), "settings": settings})
            outcome = kept.read()
            if outcome is None:
                start = time.perf_counter()
                journal = Journal(kept.folder, _watch_of(watch, name))
                measurement = _measure(probe, name, exhibits, inputs, journal, skipped if skip else None)
                if measurement is None:
                    continue
                memory = highest_memory_mib()
                outcome = _Outcome(
                    measurement=measurement,
                    time=Timed(
                        probe=name,
                        wall_time_s=time.perf_counter() - start,
                        memory_mib=memory if isfinite(memory) else None,
                    ),
                )
                kept.write(outcome)
            found.append(outcome.measurement)
            times.append(outcome.time)
    finally:
        for module, mode in was_training.items():
            module.training = mode
    return Analysis(
        models=names,
        data=data,
        num_images=sum(len(images) for images, _ in inputs.batches),
        measurements=tuple(found),
        skipped=tuple(skipped),
        times=tuple(times),
    )


def _measure(
    probe: Probe,
    name: str,
    exhibits: Sequence[Exhibit],
    inputs: Inputs,
    journal: Journal,
    skipped: list[Skipped] | None,
) -> Measurement | None:
    """Measures all models that the probe applies to; without a list for what is skipped, all or none."""
    left = tuple(exhibits)
    while left:
        try:
            return probe.measure(left, inputs, journal)
        except ConfigError as error:
            if skipped is None:
                raise
            skipped.append(Skipped(probe=name, reason=one_line(error)))
            at_fault = error.exhibit if isinstance(error, NotApplicableError) else None
            left = tuple(exhibit for exhibit in left if at_fault is not None and exhibit.name != at_fault)
    return None


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    measurement: Measurement
    time: Timed


class _Kept:
    """What is kept of one probe with certain settings: its result, or what it has so far."""

    def __init__(self, out: Path | None, name: str, settings: dict[str, Any]) -> None:
        self.folder = out / FOLDER / name if out else None
        self._settings = settings
        if self.folder and self.folder.exists() and self._read("settings") != settings:
            for path in self.folder.glob("*.json"):
                path.unlink()
        if self.folder and not (self.folder / "settings.json").exists():
            write_json(self.folder / "settings.json", settings)

    def read(self) -> _Outcome | None:
        values = self._read("result")
        try:
            return None if values is None else from_dict(_Outcome, values)
        except ConfigError:
            # A result of another version is measured again.
            return None

    def write(self, outcome: _Outcome) -> None:
        if self.folder:
            write_json(self.folder / "result.json", to_dict(outcome))

    def _read(self, key: str) -> dict[str, Any] | None:
        path = self.folder / f"{key}.json" if self.folder else None
        try:
            return read_json(path) if path and path.exists() else None
        except DataError:
            return None


def _watch_of(watch: Watch | None, name: str) -> Callable[[int, int], None] | None:
    return None if watch is None else lambda done, total: watch(name, done, total)
