"""`metaformer study paper`: every row of the paper's ablation table, its claims judged by the data."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from metaformer.cli.report import show_report
from metaformer.cli.study_progress import watch, watch_rounds
from metaformer.core.errors import ConfigError, unknown
from metaformer.data.source import DataSource
from metaformer.data.sources import open_data
from metaformer.recipes.study_paper import limited, scale_of, scaling_subjects
from metaformer.recipes.study_paper import study_paper as recipe
from metaformer.study.config import StudyConfig, choose_variants, parse_seeds
from metaformer.study.event import Executor
from metaformer.study.folder import StudyFolder, extended
from metaformer.study.local_processes import LocalProcesses
from metaformer.study.matching import matched
from metaformer.study.ray_cluster import RayCluster
from metaformer.study.runner import run_study
from metaformer.study.scaling_record import ScalingConfig, measure_scaling
from metaformer.study.speed_record import SpeedConfig, measure_speed
from metaformer.study.tuning import TUNED, TuneConfig, tune_study, tuned

PARTS = ("runs", "speed", "scaling")


def study_paper(
    *,
    data: str = "",
    scale: Literal["auto", "digits", "cifar10", "imagenet"] = "auto",
    seeds: str = "3",
    variants: str = "",
    epochs: int | None = None,
    lr: float | None = None,
    max_train_images: int | None = None,
    match: Literal["none", "macs", "params"] = "none",
    tune: Literal["none", "lr"] = "none",
    tuning: TuneConfig = TuneConfig(),  # noqa: B008 (a frozen default that tyro shows)
    parts: str = ",".join(PARTS),
    out: Path = Path("runs/paper"),
    workers: int | None = None,
    ray: str = "",
) -> int:
    """Trains every row of the paper's ablation table and its rivals, and judges the paper's claims by them.

    Args:
        data: cluttered-digits if not given; or digits, cifar10:DIR, a folder with train/ and val/, ...
        scale: Models and recipe; chosen by the data if not given.
        seeds: How many seeds (3 means 0, 1, 2), or which (0,7,9).
        variants: Names with commas between; all if not given.
        epochs: Of each run; the scale's if not given.
        lr: The common learning rate; the scale's if not given.
        max_train_images: Of the training images; the scale's if not given.
        match: Give every variant the width at which it costs as much as the base. Other architectures always get it.
        tune: lr gives each variant its own best rate as well, chosen on the validation split; both are reported.
        tuning: The grid of learning rates.
        parts: Of the study, with commas between: runs, speed (latency, memory), scaling (cost against tokens).
        out: Folder of the study. What is finished there is not run again.
        workers: Runs side by side; one a core if not given.
        ray: Address of the Ray cluster that performs the runs, as host:6379 or auto; local starts one here.
    """
    scale_name = scale_of(data) if scale == "auto" else scale
    study = limited(recipe(scale_name, data=data), epochs=epochs, lr=lr, max_train_images=max_train_images)
    study = replace(study, seeds=parse_seeds(seeds))
    chosen_parts = _parts(parts)
    if not study.data:
        raise ConfigError(f"--data must name the data of scale {scale_name}; got nothing. Try --data cifar10:DIR.")
    executor: Executor = RayCluster(address=ray, num_workers=workers) if ray else LocalProcesses(num_workers=workers)
    names = tuple(name.strip() for name in variants.split(",") if name.strip())
    choose_variants(study, names)
    source = open_data(study.data, study.preparation)
    study = matched(study, "" if match == "none" else match, source)
    chosen = replace(study, variants=choose_variants(study, names)) if names else study
    command, console = shlex.join(["metaformer", *sys.argv[1:]]), Console()
    num_failed = 0
    if "runs" in chosen_parts:
        num_failed = _run(console, study, names, source, out, command, executor)
        if tune == "lr":
            num_failed += _tune(console, chosen, tuning, source, out, command, executor)
    else:
        StudyFolder(out, extended(chosen, study, out), source, command).open()
    # After the trainings, never beside them: what is timed must have the machine for itself.
    if "speed" in chosen_parts:
        watch_rounds(console, "speed", measure_speed(chosen, source, SpeedConfig(), out=out, command=command))
    if "scaling" in chosen_parts:
        config = ScalingConfig()
        subjects = scaling_subjects(scale_name, config)
        settings = {"scale": scale_name}
        rounds = measure_scaling(subjects, config, out=out, command=command, settings=settings)
        watch_rounds(console, "scaling", rounds)
    show_report(console, out)
    return 1 if num_failed else 0


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in parts:
        if part not in PARTS:
            raise unknown("part of the study", part, PARTS)
    if not parts:
        raise ConfigError(f"--parts must name at least one of {', '.join(PARTS)}; got nothing.")
    return parts


def _run(
    console: Console,
    study: StudyConfig,
    names: tuple[str, ...],
    source: DataSource,
    out: Path,
    command: str,
    executor: Executor,
) -> int:
    events = run_study(study, out=out, command=command, variants=names, executor=executor, data=source)
    return watch(console, events, num_runs=len(set(names) or study.variants) * len(study.seeds))


def _tune(
    console: Console,
    study: StudyConfig,
    tuning: TuneConfig,
    source: DataSource,
    out: Path,
    command: str,
    executor: Executor,
) -> int:
    events = tune_study(study, tuning, out=out, command=command, executor=executor)
    # A rate that fails is an answer, not a failure.
    watch(console, events, num_runs=len(study.variants) * len(tuning.factors))
    own = tuned(study, out)
    events = run_study(own, out=out / TUNED, command=command, executor=executor, adopt_from=out, data=source)
    return watch(console, events, num_runs=len(own.variants) * len(own.seeds))
