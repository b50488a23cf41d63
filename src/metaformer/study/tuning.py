"""A learning rate for each variant: one recipe for all favours the row that it was made for."""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.machine import provenance
from metaformer.core.run_record import Metric, RunRecord, read_run_record
from metaformer.study.config import StudyConfig, Variant
from metaformer.study.event import Executor, StudyEvent
from metaformer.study.folder import is_finished, plan, run_folder
from metaformer.train.config import TrainConfig
from metaformer.train.run import Run

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
        share = epochs / train.epochs
        warmup = None if train.warmup_epochs is None else train.warmup_epochs * share
        return replace(
            train,
            lr=train.lr * factor,
            epochs=epochs,
            warmup_epochs=warmup,
            cooldown_epochs=train.cooldown_epochs * share,
        )


def tuning_runs(study: StudyConfig, tune: TuneConfig) -> dict[str, dict[float, Run]]:
    """Variant -> factor -> the run that tries it.

    Raises:
        ConfigError: The study uses the seed that is kept for tuning.
    """
    if TUNING_SEED in study.seeds:
        raise ConfigError(f"seeds must leave out {TUNING_SEED}, which rates are chosen with; take another.")
    return {
        variant.name: {factor: _run(study, variant, tune, factor) for factor in sorted(tune.factors)}
        for variant in study.variants
    }


def _run(study: StudyConfig, variant: Variant, tune: TuneConfig, factor: float) -> Run:
    train = tune.recipe(variant.train or study.train, factor)
    (run,) = plan(replace(study, variants=(replace(variant, train=train),), seeds=(TUNING_SEED,)))
    return replace(run, name=f"{variant.name}-lr{train.lr:.4g}")


def tune_study(
    study: StudyConfig, tune: TuneConfig, *, out: Path, command: str, executor: Executor
) -> Generator[StudyEvent, None, None]:
    """Tries every rate with every variant, and records what came out; resumable as a study is.

    Raises:
        ConfigError: The folder holds tuning runs with other settings.
    """
    grid = tuning_runs(study, tune)
    runs = [run for by_factor in grid.values() for run in by_factor.values()]
    folder = out / TUNING
    finished = [run for run in runs if is_finished(folder, run)]
    yield from (StudyEvent(kind="skipped", run=run, epoch=run.train.epochs) for run in finished)
    started = time.perf_counter()
    yield from executor.perform([run for run in runs if run not in finished], folder, command=command)
    _record(study, tune, folder, command, seconds=time.perf_counter() - started)


def _record(study: StudyConfig, tune: TuneConfig, folder: Path, command: str, *, seconds: float) -> None:
    rows = [_choice(variant, study, by_factor, folder) for variant, by_factor in _by_variant(study, tune)]
    RunRecord(
        kind="tuning",
        name=study.name,
        command=command,
        config={"tune": to_dict(tune), "train": to_dict(study.train)},
        seed=TUNING_SEED,
        metrics={"wall_time": Metric(value=seconds, unit="s")},
        labels={"split": "validation", "variants": rows},
        **provenance(),
        wall_time_s=seconds,
    ).write(folder)


def _by_variant(study: StudyConfig, tune: TuneConfig) -> list[tuple[Variant, dict[float, Run]]]:
    grid = tuning_runs(study, tune)
    return [(variant, grid[variant.name]) for variant in study.variants]


def _choice(variant: Variant, study: StudyConfig, by_factor: Mapping[float, Run], folder: Path) -> dict[str, Any]:
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
