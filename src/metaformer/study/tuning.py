"""A learning rate for each variant: one recipe for all favours the row that it was made for."""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from metaformer.core.configs import to_dict
from metaformer.core.difference import first_difference
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.machine import provenance
from metaformer.core.run_record import RUN_FILE, Metric, RunRecord, read_run_record
from metaformer.study.config import StudyConfig, Variant, choose_variants, with_epochs
from metaformer.study.event import Executor, StudyEvent
from metaformer.study.folder import finished_before, plan, run_folder
from metaformer.train.config import Run, TrainConfig

TUNING, TUNED = "tuning", "tuned"  # folders inside that of the study
# The seed that rates are chosen with. No study uses it, so the choice has seen none of the runs that are compared.
TUNING_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """The grid of learning rates, around that of the recipe."""

    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the recipe's rate
    epochs_share: float = 0.5  # of the recipe's epochs, for each rate

    def __post_init__(self) -> None:
        if not self.factors or len(set(self.factors)) < len(self.factors) or min(self.factors) <= 0:
            raise ConfigError(
                "TuneConfig.factors must be different numbers above 0, at least one; "
                f"got {', '.join(map(str, self.factors)) or 'none'}. Try 0.5,1,2."
            )
        if not 0 < self.epochs_share <= 1:
            raise ConfigError(f"TuneConfig.epochs_share must be above 0 and at most 1; got {self.epochs_share}.")

    def recipe(self, train: TrainConfig, factor: float) -> TrainConfig:
        """The recipe with another rate, and fewer epochs."""
        epochs = max(1, round(train.epochs * self.epochs_share))
        return with_epochs(replace(train, lr=train.lr * factor), epochs)


def tuning_runs(study: StudyConfig, tune: TuneConfig) -> dict[str, dict[float, Run]]:
    """Variant -> factor -> the run that tries it.

    Raises:
        ConfigError: The study uses the seed that is kept for tuning.
    """
    if TUNING_SEED in study.seeds:
        raise ConfigError(f"seeds must leave out {TUNING_SEED}, which rates are chosen with; take another.")
    factors = sorted(tune.factors)
    return {
        variant.name: {
            factor: _run(study, variant, tune.recipe(variant.train or study.train, factor)) for factor in factors
        }
        for variant in study.variants
    }


def _run(study: StudyConfig, variant: Variant, train: TrainConfig) -> Run:
    (run,) = plan(replace(study, variants=(replace(variant, train=train),), seeds=(TUNING_SEED,)))
    return replace(run, name=f"{variant.name}-lr{train.lr:.4g}")


def tune_study(
    study: StudyConfig,
    tune: TuneConfig,
    *,
    variants: tuple[str, ...] = (),
    out: Path,
    command: str,
    executor: Executor,
) -> Generator[StudyEvent, None, None]:
    """Tries every rate with every variant, and records what came out; resumable as a study is.

    Args:
        study: The study, with all its variants.
        tune: The grid.
        variants: Names of the variants to tune; none means all. What was found for others before stays.
        out: Folder of the study.
        command: The command that does it again, for the records.
        executor: Who performs the runs.

    Raises:
        ConfigError: The folder holds tuning runs with other settings.
        DataError: Its record of the tuning cannot be read.
    """
    chosen = replace(study, variants=choose_variants(study, variants)) if variants else study
    grid = tuning_runs(chosen, tune)
    folder = out / TUNING
    old = _earlier(study, folder)
    runs = [run for by_factor in grid.values() for run in by_factor.values()]
    before = [finished_before(folder, run) for run in runs]
    yield from (event for event in before if event)
    started = time.perf_counter()
    left = [run for event, run in zip(before, runs, strict=True) if not event]
    yield from executor.perform(left, folder, command=command)
    seconds = time.perf_counter() - started
    found = {row.name: _choice(row, study, by_factor=grid[row.name], folder=folder) for row in chosen.variants}
    rows = _rows(old) | found
    _record(study, tune, rows, command=command, seconds=seconds).write(folder)


def _earlier(study: StudyConfig, folder: Path) -> RunRecord | None:
    if not (folder / RUN_FILE).is_file():
        return None
    record = read_run_record(folder)
    there, here = record.config.get("train"), to_dict(study.train)
    if there != here:
        raise ConfigError(
            f"{folder} holds a tuning with other settings ({first_difference(there, here, 'train')}). "
            "Choose another --out, or delete that folder."
        )
    return record


def _rows(record: RunRecord | None) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in record.labels["variants"]} if record else {}


def _record(
    study: StudyConfig, tune: TuneConfig, rows: Mapping[str, dict[str, Any]], *, command: str, seconds: float
) -> RunRecord:
    return RunRecord(
        kind="tuning",
        name=study.name,
        command=command,
        config={"tune": to_dict(tune), "train": to_dict(study.train)},
        seed=TUNING_SEED,
        metrics={"wall_time": Metric(value=seconds, unit="s")},
        labels={
            "split": "validation",
            "variants": [rows[variant.name] for variant in study.variants if variant.name in rows],
        },
        **provenance(),
        wall_time_s=seconds,
    )


def _choice(variant: Variant, study: StudyConfig, *, by_factor: Mapping[float, Run], folder: Path) -> dict[str, Any]:
    """The rate with the best validation accuracy; of equals the lower loss, then the one nearest to the recipe's."""
    tried = {factor: _outcome(run, folder) for factor, run in by_factor.items()}
    good = {factor: outcome for factor, outcome in tried.items() if outcome is not None}
    recipe_lr = (variant.train or study.train).lr
    best = max(good, key=lambda factor: (*good[factor], -abs(factor - 1)), default=1.0)
    ends = (min(by_factor), max(by_factor))
    return {
        "name": variant.name,
        "recipe_lr": recipe_lr,
        "lr": recipe_lr * best,
        "rates": [run.train.lr for run in by_factor.values()],
        # Rows of one record may come from grids of several commands.
        "epochs": [run.train.epochs for run in by_factor.values()],
        "validation_accuracy": [outcome[0] if outcome else None for outcome in tried.values()],
        # Beyond the grid there may be a better one.
        "at_edge": best in ends and len(by_factor) > 1 and bool(good),
        "failed": not good,
    }


def _outcome(run: Run, folder: Path) -> tuple[float, float] | None:
    """Accuracy, and loss with its sign turned; None for a run that failed."""
    try:
        record = read_run_record(run_folder(folder, run))
    except DataError:
        return None
    if record.error is not None:
        return None
    losses = record.history.get("validation_loss") or [float("inf")]
    return record.metrics["validation_accuracy"].value, -losses[-1] if isfinite(losses[-1]) else float("-inf")


def tuned(study: StudyConfig, out: Path) -> StudyConfig:
    """The study with each variant at its own rate, as the folder's tuning found it.

    Raises:
        DataError: The folder holds no tuning.
    """
    rates = {row["name"]: row["lr"] for row in read_run_record(out / TUNING).labels["variants"]}
    rows = []
    for variant in study.variants:
        recipe = variant.train or study.train
        lr = rates.get(variant.name, recipe.lr)
        rows.append(variant if lr == recipe.lr else replace(variant, train=replace(recipe, lr=lr)))
    return replace(study, variants=tuple(rows))
