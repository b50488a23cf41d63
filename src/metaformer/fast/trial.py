"""The timed trial: which ways to run a model exist here, are right, and how long each takes."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from metaformer.core import caches
from metaformer.core.atomic_write import write_json
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError, DataError, one_line
from metaformer.core.machine import machine_facts, versions
from metaformer.core.run_record import read_json
from metaformer.fast.candidates import CANDIDATES, NotHereError
from metaformer.fast.timing import interleave
from metaformer.fast.verify import TOLERANCE, fresh_inputs, largest_difference
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.native import build

ORIGINAL = "original"
# A way must be faster by this share to be worth another model.
WORTHWHILE = 0.02
ROUNDS, BUDGET_S = 10, 20.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the trial found out about one way to run the model."""

    name: str  # in CANDIDATES
    median_ms: float | None = None  # of one call; None if it was not timed
    spread: float | None = None  # half the distance between the quartiles, as a share of the median
    speedup: float | None = None  # over the original, the median of rounds side by side
    difference: float | None = None  # largest, of a class score, as a share of the largest score
    dropped: str | None = None  # why it is no candidate


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The table of a trial and its choice."""

    rows: tuple[Row, ...]
    chosen: str
    cached: bool = False  # read from an earlier trial on this machine

    def __str__(self) -> str:
        lines = [f"{'':24}{'ms':>9}{'spread':>9}{'speedup':>9}{'difference':>12}"]
        for row in self.rows:
            mark = "*" if row.name == self.chosen else " "
            if row.dropped is not None:
                lines.append(f"{mark} {row.name:22}  {row.dropped}")
            else:
                numbers = (
                    f"{row.median_ms:9.2f}{100 * (row.spread or 0):8.1f}%{row.speedup:8.2f}x{row.difference:12.1e}"
                )
                lines.append(f"{mark} {row.name:22}{numbers}")
        return "\n".join(lines)


def cache_folder() -> Path:
    """Where trials are kept."""
    return caches.cache_folder("trials")


def cached_trial(model: MetaFormer, example: Tensor, dtype: torch.dtype) -> Trial | None:
    """An earlier trial of the same model, shape, dtype, machine, threads and versions; None if there is none."""
    try:
        trial = from_dict(Trial, read_json(_cache_file(model, example, dtype)))
    except (DataError, ConfigError):
        # None there, or written by another version: tried again, and written anew.
        return None
    return replace(trial, cached=True) if trial.chosen in CANDIDATES else None


def run_trial(model: MetaFormer, example: Tensor, dtype: torch.dtype) -> tuple[Trial, nn.Module | None]:
    """Makes, checks and times every candidate; keeps the table in the cache.

    Returns:
        The table, and the model that was chosen; None for the original.
    """
    inputs = fresh_inputs(example)
    with torch.no_grad():
        expected = expected_outputs(model, inputs)
        made: dict[str, nn.Module] = {}
        rows: dict[str, Row] = {}
        for name in CANDIDATES:
            rows[name], candidate = _check(name, model, dtype, inputs, expected)
            if candidate is not None:
                made[name] = candidate
        timings = interleave(_calls(made, example), rounds=ROUNDS, budget_s=BUDGET_S)
    for name, timing in timings.items():
        speedup = 1 / timing.ratio_to(timings[ORIGINAL])
        rows[name] = replace(rows[name], median_ms=1e3 * timing.median, spread=timing.spread, speedup=speedup)
    chosen = max(timings, key=lambda name: rows[name].speedup or 0.0)
    if (rows[chosen].speedup or 0.0) < 1 + WORTHWHILE:
        chosen = ORIGINAL
    trial = Trial(rows=tuple(rows.values()), chosen=chosen)
    try:
        write_json(_cache_file(model, example, dtype), to_dict(trial))
    except OSError as error:
        warnings.warn(f"the trial's result is not kept for the next time: {error}", stacklevel=3)
    return trial, None if chosen == ORIGINAL else made[chosen]


def expected_outputs(model: MetaFormer, inputs: list[Tensor]) -> list[Tensor]:
    """What the model itself gives in evaluation mode, computed in its own dtype."""
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        return [model(x) for x in inputs]
    finally:
        for module in was_training:
            module.training = True


def build_candidate(name: str, model: MetaFormer, dtype: torch.dtype) -> nn.Module:
    """A model of CANDIDATES.

    Raises:
        NotHereError: It does not exist on this machine.
    """
    return CANDIDATES[name](model, dtype)


def _check(
    name: str, model: MetaFormer, dtype: torch.dtype, inputs: list[Tensor], expected: list[Tensor]
) -> tuple[Row, nn.Module | None]:
    try:
        candidate = build_candidate(name, model, dtype)
        difference = largest_difference(candidate, inputs, expected)
    except NotHereError as error:
        return Row(name=name, dropped=str(error)), None
    # Whatever a compiler or a kernel does wrong must cost the user no more than this candidate.
    except Exception as error:
        return Row(name=name, dropped=f"failed: {one_line(error, 200)}"), None
    if difference > TOLERANCE[dtype] and name != ORIGINAL:
        reason = f"wrong by {difference:.1e}, allowed {TOLERANCE[dtype]:.0e}"
        return Row(name=name, difference=None, dropped=reason), None
    return Row(name=name, difference=min(difference, 1e30)), candidate


def _calls(made: dict[str, nn.Module], example: Tensor) -> dict[str, Callable[[], object]]:
    def call_of(candidate: nn.Module) -> Callable[[], object]:
        return lambda: candidate(example)

    return {name: call_of(candidate) for name, candidate in made.items()}


def _cache_file(model: MetaFormer, example: Tensor, dtype: torch.dtype) -> Path:
    weights = next(model.parameters())
    key = {
        "machine": machine_facts(),
        "versions": versions(),
        "candidates": list(CANDIDATES),
        "operators": hashlib.sha256(b"".join(path.read_bytes() for path in build.source_files())).hexdigest(),
        "config": to_dict(model.config),
        "stages": len(model.stages),
        "input": [*example.shape, *example.stride(), str(example.dtype)],
        "dtype": str(dtype),
        "weights": [str(weights.dtype), str(weights.device)],
    }
    return cache_folder() / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.json"
