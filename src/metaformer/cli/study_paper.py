"""`metaformer study paper`: every row of the paper's ablation table, its claims judged by the data."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from metaformer.cli.progress import watch_rounds
from metaformer.cli.report import show_report
from metaformer.cli.study_progress import watch
from metaformer.core.command_line import given_command
from metaformer.core.errors import ConfigError, unknown
from metaformer.data.source import DataSource
from metaformer.data.sources import open_data
from metaformer.recipes.study_paper import limited, scale_of, scaling_subjects
from metaformer.recipes.study_paper import study_paper as recipe
from metaformer.report.report import report
from metaformer.study.config import StudyConfig, choose_variants, parse_seeds
from metaformer.study.event import Executor, StudyEvent
from metaformer.study.folder import StudyFolder, extended
from metaformer.study.local_processes import LocalProcesses
from metaformer.study.matching import matched
from metaformer.study.ray_cluster import RayCluster
from metaformer.study.runner import run_study
from metaformer.study.scaling_record import ScalingConfig, measure_scaling
from metaformer.study.speed_record import SpeedConfig, measure_speed
from metaformer.study.tuning import TUNED, TuneConfig, tune_study, tuned
from metaformer.study.worker import EXECUTION
from metaformer.train.config import Execution

PARTS = ("runs", "speed", "scaling")


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """The options of the command."""

    data: str = ""  # cluttered-digits if not given; or digits, cifar10:DIR, a folder with train/ and val/, ...
    # Models and recipe; chosen by the data if not given.
    scale: Literal["auto", "digits", "cifar10", "imagenet"] = "auto"
    seeds: str = "3"  # how many seeds (3 means 0, 1, 2), or which (0,7,9)
    variants: str = ""  # names with commas between; all if not given
    epochs: int | None = None  # of each run; the scale's if not given
    lr: float | None = None  # the common learning rate; the scale's if not given
    max_train_images: int | None = None  # of the training images; the scale's if not given
    # Give every variant the width at which it costs as much as the base. Other architectures always get it, by MACs.
    match: Literal["none", "macs", "params"] = "none"
    # lr gives each variant its own best rate as well, chosen on the validation split; both are reported.
    tune: Literal["none", "lr"] = "none"
    tuning: TuneConfig = field(default_factory=TuneConfig)  # the grid of learning rates
    execution: Execution = EXECUTION  # of every run: what changes speed, memory and safety, and not the result
    parts: str = ",".join(PARTS)  # with commas between: runs, speed (latency, memory), scaling (cost against tokens)
    out: Path = Path("runs/paper")  # folder of the study; what is finished there is not run again
    workers: int | None = None  # runs side by side; one a GPU, or a core where there is none, if not given
    ray: str = ""  # address of the Ray cluster that performs the runs, as host:6379 or auto; local starts one here


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What one call of the command works with."""

    study: StudyConfig  # all of it
    scale: str
    names: tuple[str, ...]  # of the variants that were asked for; none means all
    source: DataSource
    out: Path
    command: str
    executor: Executor
    console: Console = field(default_factory=Console)

    @property
    def chosen(self) -> StudyConfig:
        """The part of the study that was asked for."""
        return replace(self.study, variants=choose_variants(self.study, self.names)) if self.names else self.study


def study_paper(options: Annotated[PaperOptions, tyro.conf.arg(name="")] = PaperOptions()) -> int:
    """Trains every row of the paper's ablation table and its rivals, and judges the paper's claims by them.

    Args:
        options: What is asked.
    """
    parts = _parts(options.parts)
    session = _session(options)
    # Also what the folder holds from earlier commands: it is one study, and its rows are measured together.
    whole = extended(session.chosen, session.study, session.out)
    num_failed = 0
    if "runs" in parts:
        num_failed = _run(session)
        if options.tune == "lr":
            num_failed += _tune(session, options.tuning)
    else:
        StudyFolder(session.out, whole, session.source, session.command).open()
    # After the trainings, never beside them: what is timed must have the machine for itself.
    if "speed" in parts:
        rounds = measure_speed(whole, session.source, SpeedConfig(), out=session.out, command=session.command)
        watch_rounds(session.console, "speed", rounds)
    if "scaling" in parts:
        _measure_scaling(session)
    show_report(session.console, report(session.out))
    return 1 if num_failed else 0


def _session(options: PaperOptions) -> _Session:
    scale = scale_of(options.data) if options.scale == "auto" else options.scale
    study = recipe(scale, data=options.data)
    study = limited(study, epochs=options.epochs, lr=options.lr, max_train_images=options.max_train_images)
    study = replace(study, seeds=parse_seeds(options.seeds))
    if not study.data:
        raise ConfigError(f"--data must name the data of scale {scale}; got nothing. Try --data cifar10:DIR.")
    names = tuple(name.strip() for name in options.variants.split(",") if name.strip())
    choose_variants(study, names)
    executor = _executor(options)
    source = open_data(study.data, study.preparation)
    return _Session(
        study=matched(study, "" if options.match == "none" else options.match, source),
        scale=scale,
        names=names,
        source=source,
        out=options.out,
        command=given_command(),
        executor=executor,
    )


def _executor(options: PaperOptions) -> Executor:
    if options.execution.fast:
        # Half of the rows would fail: what they change is what cannot be fused.
        raise ConfigError("--execution.fast is not for a study, which trains rows that have no fused operators too.")
    if options.ray:
        return RayCluster(address=options.ray, num_workers=options.workers, execution=options.execution)
    return LocalProcesses(num_workers=options.workers, execution=options.execution)


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in parts:
        if part not in PARTS:
            raise unknown("part of the study", part, PARTS)
    if not parts:
        raise ConfigError(f"--parts must name at least one of {', '.join(PARTS)}; got nothing.")
    return parts


def _run(session: _Session) -> int:
    events = run_study(
        session.study,
        out=session.out,
        command=session.command,
        variants=session.names,
        executor=session.executor,
        data=session.source,
    )
    return _watch(session, events)


def _tune(session: _Session, tuning: TuneConfig) -> int:
    events = tune_study(
        session.study,
        tuning,
        variants=session.names,
        out=session.out,
        command=session.command,
        executor=session.executor,
    )
    # A rate that fails is an answer, not a failure.
    watch(session.console, events, num_runs=len(session.chosen.variants) * len(tuning.factors))
    events = run_study(
        tuned(session.study, session.out),
        out=session.out / TUNED,
        command=session.command,
        variants=session.names,
        executor=session.executor,
        adopt_from=session.out,
        data=session.source,
    )
    return _watch(session, events)


def _watch(session: _Session, events: Generator[StudyEvent, None, None]) -> int:
    num_runs = len(session.chosen.variants) * len(session.study.seeds)
    return watch(session.console, events, num_runs=num_runs, may_diverge=session.study.controls)


def _measure_scaling(session: _Session) -> None:
    config = ScalingConfig()
    rounds = measure_scaling(
        scaling_subjects(session.scale, config),
        config,
        out=session.out,
        command=session.command,
        settings={"scale": session.scale},
    )
    watch_rounds(session.console, "scaling", rounds)
