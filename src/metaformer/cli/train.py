"""`metaformer train`: one model by a recipe, from first weights to a folder that the other commands take."""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from metaformer.cli.parsing import UsageError, read_ahead
from metaformer.cli.progress import watch_training
from metaformer.core.checked import MOST_THREADS, check_count
from metaformer.core.errors import ConfigError, MissingExtraError, StoppedError, one_line
from metaformer.core.records import RUN_FILE, Record, Training
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataSource
from metaformer.data.sources import open_data
from metaformer.recipes.table import RECIPES, recipe, with_token_mixers
from metaformer.train.config import Execution, Run, TrainConfig
from metaformer.train.dry_run import DryRun, dry_run
from metaformer.train.processes import LostProcessError
from metaformer.train.run import finished_run
from metaformer.train.run import train as train_run
from metaformer.train.stopping import InterruptedRunError, Interruption

NAMED = 5  # images that could not be read, on the screen


def command(words: list[str]) -> tuple[Callable[..., int], list[str], str]:
    """The function of a recipe, with the recipe's settings as its defaults; the words left; what to call it.

    The model is read ahead, because a recipe's settings depend on it.

    Raises:
        UsageError: No recipe is named.
        ConfigError: The recipe or the model is unknown.
    """
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:31}{_first_line(recipe)}" for name, recipe in RECIPES.items()]
        usage = "usage: metaformer train RECIPE [options]; the options of one: metaformer train RECIPE --help"
        if not words:
            raise UsageError(f"'metaformer train' needs a recipe: {', '.join(RECIPES)}.")
        print("\n".join([usage, "", *lines]))
        return (lambda: 0), [], "metaformer train"
    name, rest = words[0].replace("_", "-"), words[1:]
    RECIPES[name]
    return _command_of(name, read_ahead(_Ahead(), rest)), rest, f"metaformer train {name}"


@dataclass(frozen=True, kw_only=True)
class _Ahead:
    """The options that the defaults of the others depend on."""

    model: str = ""
    weights: str = ""


def _command_of(name: str, ahead: _Ahead) -> Callable[..., int]:
    defaults = recipe(name, model=ahead.model, weights=ahead.weights)

    def train(
        *,
        data: str = defaults.data,
        model: str = "",  # noqa: ARG001 (read ahead)
        token_mixers: str = "",
        weights: str = "",
        seed: int = 0,
        out: Path = Path("runs") / name,
        train: TrainConfig = defaults.train,
        preparation: Preparation = defaults.preparation,
        execution: Execution = Execution(),  # noqa: B008 (frozen)
        threads: int | None = None,
        deterministic: bool = False,
        dry_run: bool = False,
    ) -> int:
        run = replace(
            with_token_mixers(defaults, token_mixers) if token_mixers else defaults,
            data=data,
            weights=weights or None,
            seed=seed,
            train=train,
            preparation=preparation,
        )
        if deterministic:
            torch.use_deterministic_algorithms(True)
        if threads is not None:
            check_count(threads, "--threads", most=MOST_THREADS)
            torch.set_num_threads(threads)
        return _train(run, out, execution, only_look=dry_run)

    train.__doc__ = f"""{_first_line(RECIPES[name])}

    The same command continues a run that was stopped, from its last checkpoint. Exit codes: 0 done; 1 the run had to
    stop (it diverged, memory or disk ran out, a process was lost); 2 the request was wrong; 130 or 143 interrupted.

    Args:
        data: digits, cluttered-digits; a folder of class folders, Parquet files or tar shards; cifar10:DIR,
            parquet:PATH, wds:PATH-OR-URL; or by timm's factory torch/NAME:FOLDER, hfds/OWNER/NAME, hfids/OWNER/NAME.
        model: A name of the zoo (metaformer models).
        token_mixers: One a stage, as pooling,pooling,attention,attention, with options as pooling(pool_size=5).
        weights: To start from: a file of any known layout, a run folder, a URL or a hub id (hf://owner/name).
        seed: Of first weights, order, augmentation, mixing, drop path.
        out: Folder of the run.
        train: The recipe, which decides the result.
        preparation: How images become the model's input, and how training images are varied.
        execution: What changes speed, memory and safety, and not the result.
        threads: Of PyTorch on a CPU; one a core if not given.
        deterministic: Refuse operations whose result may vary from run to run (on GPUs).
        dry_run: Check the data, take one step of each phase, and say what the whole needs.
    """
    return train


def _train(run: Run, out: Path, execution: Execution, *, only_look: bool) -> int:
    if not run.data:
        raise ConfigError("--data is missing: say what to train on, as --data FOLDER or --data cifar10:DIR.")
    is_first = os.environ.get("RANK", "0") == "0"
    source = open_data(run.data, run.preparation, num_workers=execution.num_workers)
    if is_first:
        _say_data(source)
    try:
        if only_look:
            found = dry_run(run, source, out, execution=execution)
            if is_first:
                _say_dry_run(found)
            return 0
        if finished_run(run, source, out):
            print(f"{out} holds this run, finished. Choose another --out to run it again.")
            return 0
        # One process of several speaks.
        console = Console(soft_wrap=True, highlight=False, quiet=not is_first)
        with (
            Interruption() as interruption,
            open(os.devnull, "w") as nowhere,  # noqa: PTH123
            redirect_stdout(sys.stdout if is_first else nowhere),
        ):
            record = train_run(
                run,
                out=out,
                data=source,
                execution=execution,
                watch=lambda results: watch_training(console, results, num_epochs=run.train.epochs),
                stop=lambda: interruption.signal_number,
            )
    except InterruptedRunError as stopped:
        if is_first:
            print(f"\n{stopped}", file=sys.stderr)
        return 128 + stopped.signal_number
    except StoppedError as error:
        # What happens to all is said once; that a process is gone, by every one that is left.
        if is_first or isinstance(error, LostProcessError):
            print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    if record:
        _say_result(record, out, source)
    return 0


def _say_data(source: DataSource) -> None:
    facts = source.facts
    size = "x".join(map(str, (facts.in_chans, *facts.image_size)))
    print(
        f"{facts.title}: {facts.num_train:,} training images, {facts.num_validation:,} for validation, "
        f"{facts.num_test:,} for the test; {len(facts.class_names)} classes; {size}"
    )
    for note in facts.notes:
        print(f"note: {note}")
    _say_unreadable(source)


def _say_unreadable(source: DataSource) -> None:
    for name, reason in source.unreadable[:NAMED]:
        print(f"cannot read {name}: {reason}", file=sys.stderr)
    if source.unreadable:
        rest = len(source.unreadable) - NAMED
        more = f" ({rest} more are in {RUN_FILE})" if rest > 0 else ""
        print(f"{len(source.unreadable)} images could not be read and are not trained on{more}.", file=sys.stderr)


def _say_dry_run(found: DryRun) -> None:
    print(
        f"\nnothing was written; one step of each phase went well\n"
        f"model         {found.params:>12,} parameters, {found.trained_params:,} of them trained\n"
        f"batch         {'x'.join(map(str, found.batch_shape)):>12} a step, {found.steps_per_epoch:,} steps an epoch\n"
        f"step          {found.step_seconds:>12.3f} s, {found.images_per_second:,.0f} images/s "
        f"({found.waiting_share:.0%} of it waiting for images)\n"
        f"validation    {found.validation_seconds:>12.1f} s an epoch\n"
        f"whole run     {found.hours:>12.2f} hours\n"
        f"memory        {found.memory_mib:>12,.0f} MiB at most so far\n"
        f"checkpoint    {found.checkpoint_mib:>12,.0f} MiB; {found.free_disk_mib:,.0f} MiB of disk are free"
    )


def _say_result(record: Record[Training], out: Path, source: DataSource) -> None:
    trained = record.measured
    tested = "" if trained.test_accuracy_percent is None else f"test {trained.test_accuracy_percent:.2f}%, "
    print(
        f"\n{tested}validation {trained.validation_accuracy_percent:.2f}%, best epoch {trained.best_epoch}, "
        f"{trained.train_time_s / 60:.1f} minutes\n"
        f"folder: {out.resolve()}\n"
        f"{_page(out)}"
        f"next:   metaformer predict {out} IMAGE..., metaformer evaluate {out} --data DATA"
    )
    _say_unreadable(source)


def _page(out: Path) -> str:
    try:
        from metaformer.report.report import report
    except MissingExtraError:
        return ""
    return f"page:   {report(out).page}\n"


def _first_line(recipe: Callable[..., Run]) -> str:
    return (recipe.__doc__ or "").strip().splitlines()[0]
