"""The timed trial: which ways to run a model exist here, are right, and how long each takes."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from metaformer.core import caches
from metaformer.core.checked_file import checked_path, is_whole
from metaformer.core.compiling import compiler_version
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.machine import instruction_sets, this_machine, versions
from metaformer.core.memory import keep_freed_memory
from metaformer.core.records import read_json
from metaformer.fast.backends import choose_launches
from metaformer.fast.candidates import CANDIDATES
from metaformer.fast.contest import Applied, Call, Cell, Outcome, Rules, hold_contest, interleave
from metaformer.fast.verify import TOLERANCE, fresh_inputs, largest_difference
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.native import build

ORIGINAL = "original"
# A way must be faster by this share to be worth another model.
WORTHWHILE = 0.02
ROUNDS, BUDGET_S = 10, 20.0
# A trial is kept if this process got at least so much of the cores that it wanted.
QUIET = 0.95


@dataclass(frozen=True, kw_only=True)
class TrialRow:
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

    rows: tuple[TrialRow, ...]
    chosen: str
    cached: bool = False  # read from an earlier trial on this machine
    core_share: float | None = None  # of the time in which our threads wanted a core, they had one; None: nobody knows

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
        if self.core_share is not None and self.core_share < QUIET:
            lines.append(f"the machine was busy: {100 * self.core_share:.0f}% of the cores were ours; not kept")
        return "\n".join(lines)


def cache_folder() -> Path:
    """Where trials are kept."""
    return caches.cache_folder("trials")


def cached_trial(model: MetaFormer, example: Tensor, dtype: torch.dtype) -> Trial | None:
    """An earlier trial of the same model, shape, dtype, machine, threads and versions; None if there is none."""
    try:
        file = _cache_file(model, example, dtype)
        if not is_whole(file):
            return None
        trial = from_dict(Trial, read_json(file))
    except (DataError, ConfigError):
        # None there, or written by another version: tried again, and written anew.
        return None
    return replace(trial, cached=True) if trial.chosen in CANDIDATES else None


def run_trial(
    model: MetaFormer, example: Tensor, dtype: torch.dtype, *, names: tuple[str, ...] | None = None
) -> tuple[Trial, nn.Module | None]:
    """Makes, checks and times every candidate; keeps the table in the cache, if the machine was ours meanwhile.

    Each is timed as it will run: in this process, whose allocator keeps what it frees, and compiled for the shape of
    the example alone. The fastest and the next one meet once more at the end.

    Args:
        model: It stays as it is.
        example: A batch.
        dtype: Of features and weights.
        names: Of candidates; None: all of them. The original is always one.

    Returns:
        The table, and the model that was chosen; None for the original.
    """
    keep_freed_memory()
    inputs = fresh_inputs(example)
    rules = Rules(base=ORIGINAL, allowed=TOLERANCE[dtype], rounds=ROUNDS, budget_s=BUDGET_S)
    with torch.no_grad():
        expected = expected_outputs(model, inputs)

        def maker(name: str) -> Callable[[], Call]:
            return lambda: Applied(build_candidate(name, model, dtype, example), example)

        def difference(call: Call) -> float:
            assert isinstance(call, Applied)
            return largest_difference(call.model, inputs, expected)

        makers = {name: maker(name) for name in CANDIDATES if names is None or name in (ORIGINAL, *names)}
        outcome = hold_contest(makers, difference, rules)
        chosen = _winner(outcome)
    trial = Trial(rows=tuple(map(_row, outcome.cells.values())), chosen=chosen, core_share=outcome.core_share)
    if names is None and (trial.core_share is None or trial.core_share >= QUIET):
        _keep(trial, _cache_file(model, example, dtype))
    call = outcome.calls[chosen]
    assert isinstance(call, Applied)
    return trial, None if chosen == ORIGINAL else call.model


def _winner(outcome: Outcome) -> str:
    """The fastest, if it is so again beside the next one and the original."""
    ratios = {name: cell.ratio for name, cell in outcome.cells.items() if cell.ratio is not None}
    best = sorted(ratios, key=ratios.__getitem__)[:2]
    again = interleave({name: outcome.calls[name] for name in {*best, ORIGINAL}}, rounds=ROUNDS, budget_s=BUDGET_S / 2)
    chosen = min(best, key=lambda name: again[name].ratio_to(again[ORIGINAL]))
    return chosen if again[chosen].ratio_to(again[ORIGINAL]) < 1 / (1 + WORTHWHILE) else ORIGINAL


def _row(cell: Cell) -> TrialRow:
    if cell.timing is None or cell.ratio is None:
        return TrialRow(name=cell.peer, dropped=cell.skipped or "not timed")
    return TrialRow(
        name=cell.peer,
        median_ms=1e3 * cell.timing.median,
        spread=cell.timing.spread,
        speedup=1 / cell.ratio,
        difference=cell.difference,
    )


def _keep(trial: Trial, file: Path) -> None:
    try:
        with checked_path(file) as temporary:
            temporary.write_text(json.dumps(to_dict(trial)), encoding="utf-8")
    except OSError as error:
        warnings.warn(f"the trial's result is not kept for the next time: {error}", stacklevel=4)


def expected_outputs(model: MetaFormer, inputs: list[Tensor]) -> list[Tensor]:
    """What the model itself gives in evaluation mode, computed in its own dtype."""
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        return [model(x) for x in inputs]
    finally:
        for module in was_training:
            module.training = True


@torch.no_grad()
def build_candidate(name: str, model: MetaFormer, dtype: torch.dtype, example: Tensor) -> nn.Module:
    """A model of CANDIDATES; its kernels are launched as is best for batches like the example.

    Raises:
        NotHereError: It does not exist on this machine.
    """
    made = CANDIDATES[name](model, dtype)
    choose_launches(made, example)
    return made


def _cache_file(model: MetaFormer, example: Tensor, dtype: torch.dtype) -> Path:
    weights = next(model.parameters())
    key = {
        "machine": asdict(this_machine()),
        "instructions": instruction_sets(),
        "compiler": compiler_version(),
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
