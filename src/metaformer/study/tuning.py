"""A learning rate for each variant: one recipe for all favours the row that it was made for."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from metaformer.core.configs import to_dict
from metaformer.core.difference import first_difference
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import RUN_FILE, Record, Recorder, Training, TriedRate, TunedVariant, Tuning, read_record
from metaformer.study.config import PlannedVariant, StudyConfig, choose_variants, with_epochs
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


def _run(study: StudyConfig, variant: PlannedVariant, train: TrainConfig) -> Run:
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
    settings = {"tune": to_dict(tune), "train": to_dict(study.train)}
    recorder = Recorder(Tuning, name=study.name, config=settings, command=command, seed=TUNING_SEED)
    left = [run for event, run in zip(before, runs, strict=True) if not event]
    yield from executor.perform(left, folder, command=command)
    found = {row.name: _choice(row, study, by_factor=grid[row.name], folder=folder) for row in chosen.variants}
    rows = {one.name: one for one in old.measured.variants} | found if old else found
    recorder.result = Tuning(variants=tuple(rows[one.name] for one in study.variants if one.name in rows))
    recorder.finish().write(folder)


def _earlier(study: StudyConfig, folder: Path) -> Record[Tuning] | None:
    if not (folder / RUN_FILE).is_file():
        return None
    record = read_record(folder, Tuning)
    there, here = record.config.get("train"), to_dict(study.train)
    if there != here:
        raise ConfigError(
            f"{folder} holds a tuning with other settings ({first_difference(there, here, 'train')}). "
            "Choose another --out, or delete that folder."
        )
    return record


def _choice(
    variant: PlannedVariant, study: StudyConfig, *, by_factor: Mapping[float, Run], folder: Path
) -> TunedVariant:
    """The rate with the best validation accuracy; of equals the lower loss, then the one nearest to the recipe's."""
    tried = {factor: _outcome(run, folder) for factor, run in by_factor.items()}
    good = {factor: outcome for factor, outcome in tried.items() if outcome is not None}
    recipe_lr = (variant.train or study.train).lr
    best = max(good, key=lambda factor: (*good[factor], -abs(factor - 1)), default=1.0)
    return TunedVariant(
        name=variant.name,
        recipe_lr=recipe_lr,
        lr=recipe_lr * best,
        # Rows of one record may come from grids of several commands, so each says its epochs.
        tried=tuple(
            TriedRate(
                lr=run.train.lr,
                epochs=run.train.epochs,
                validation_accuracy_percent=outcome[0] if (outcome := tried[factor]) else None,
            )
            for factor, run in by_factor.items()
        ),
        at_edge=best in (min(by_factor), max(by_factor)) and len(by_factor) > 1 and bool(good),
    )


def _outcome(run: Run, folder: Path) -> tuple[float, float] | None:
    """Accuracy, and loss with its sign turned; None for a run that failed."""
    try:
        trained = read_record(run_folder(folder, run), Training).measured
    except DataError:
        return None
    loss = trained.final_validation_loss
    return trained.validation_accuracy_percent, float("-inf") if loss is None else -loss


def tuned(study: StudyConfig, out: Path) -> StudyConfig:
    """The study with each variant at its own rate, as the folder's tuning found it.

    Raises:
        DataError: The folder holds no tuning.
    """
    rates = {one.name: one.lr for one in read_record(out / TUNING, Tuning).measured.variants}
    rows = []
    for variant in study.variants:
        recipe = variant.train or study.train
        lr = rates.get(variant.name, recipe.lr)
        rows.append(variant if lr == recipe.lr else replace(variant, train=replace(recipe, lr=lr)))
    return replace(study, variants=tuple(rows))
