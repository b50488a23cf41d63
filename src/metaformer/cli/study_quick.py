"""`metaformer study quick`: the same architecture, nothing changed but the token mixer."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from metaformer.cli.report import show_report
from metaformer.cli.study_progress import watch
from metaformer.core.command_line import given_command
from metaformer.recipes.study_quick import study_quick as recipe
from metaformer.report.report import report
from metaformer.study.config import parse_seeds
from metaformer.study.runner import run_study
from metaformer.train.config import TrainConfig


def study_quick(
    *,
    train: TrainConfig = recipe().train,  # noqa: B008 (a frozen default that tyro shows)
    data: str = recipe().data,
    seeds: str = "3",
    variants: str = "",
    out: Path = Path("runs/quick"),
    workers: int | None = None,
) -> int:
    """Trains small MetaFormers that differ in nothing but the token mixer, and compares them.

    Args:
        train: The recipe, the same for every variant.
        data: cluttered-digits or digits.
        seeds: How many seeds (3 means 0, 1, 2), or which (0,7,9).
        variants: Names with commas between; all if not given.
        out: Folder of the study. What is finished there is not run again.
        workers: Runs side by side; one a GPU, or a core where there is none, if not given.
    """
    study = replace(recipe(), train=train, data=data, seeds=parse_seeds(seeds))
    names = tuple(name.strip() for name in variants.split(",") if name.strip())
    command = given_command()
    console = Console()
    events = run_study(study, out=out, command=command, variants=names, num_workers=workers)
    num_runs = len(set(names) or study.variants) * len(study.seeds)
    num_failed = watch(console, events, num_runs=num_runs, may_diverge=study.controls)
    show_report(console, report(out))
    return 1 if num_failed else 0
