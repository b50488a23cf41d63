"""`metaformer card`: the report card of one token mixer, yours or ours."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from metaformer.cli.progress import watch_rounds
from metaformer.cli.report import show_report
from metaformer.cli.study_progress import watch
from metaformer.core.command_line import given_command
from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError
from metaformer.core.records import Card, Check, Recorder
from metaformer.recipes.card import card as recipe
from metaformer.report.report import report
from metaformer.study.card import (
    ACCURACY,
    CardConfig,
    beside_references,
    card_is_bad,
    card_result,
    card_study,
    check_source,
    default_folder,
    references,
)
from metaformer.study.config import parse_seeds
from metaformer.study.load_mixer import NamedMixer, load_mixer
from metaformer.study.mixer_contract import REQUIRED, check_contract
from metaformer.study.runner import run_study
from metaformer.study.scaling_record import measure_scaling, mixer_subject
from metaformer.train.config import TrainConfig


def card(
    mixer: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MIXER")],
    /,
    *,
    train: TrainConfig = recipe().train,  # noqa: B008 (a frozen default that tyro shows)
    data: str = recipe().data,
    seeds: str = "3",
    compile: bool = False,
    out: Path | None = None,
    workers: int | None = None,
) -> int:
    """Checks a token mixer's contract, then compares it with pooling, depthwise convolution and attention.

    Args:
        mixer: 'my_module:MyMixerConfig', 'my_file.py:MyMixerConfig(step=2)' or a known name.
        train: The recipe, the same for every mixer.
        data: cluttered-digits, digits, cifar10:DIR, ...
        seeds: How many seeds (3 means 0, 1, 2), or which (0,7,9).
        compile: Check torch.compile too.
        out: Folder of the card; runs/card-NAME if not given. What is finished there is not run again.
        workers: Runs side by side; one a GPU, or a core where there is none, if not given.
    """
    config = replace(recipe(), train=train, data=data, seeds=parse_seeds(seeds))
    named = beside_references(load_mixer(mixer), config.head_dim)
    folder = out if out is not None else default_folder(named)
    if folder.is_file():
        raise ConfigError(f"{folder} is a file. Choose another --out.")
    check_source(named, folder)
    command, console = given_command(), Console()
    settings = {"mixer": to_dict(named)["config"], "card": to_dict(config)}
    recorder: Recorder[Card] = Recorder(Card, name=named.name, config=settings, command=command, seed=None)
    checks = _check(console, named, with_compile=compile)
    if why := [REQUIRED[check.id] for check in checks if check.id in REQUIRED and check.status == "fail"]:
        console.print(f"{why[0]}, so it cannot be trained. Nothing else was measured.", soft_wrap=True)
        return 1
    study = card_study(named, config)
    events = run_study(study, out=folder / ACCURACY, command=command, num_workers=workers)
    num_failed = watch(console, events, num_runs=len(study.variants) * len(study.seeds))
    _measure_cost(console, named, config, folder=folder, command=command)
    recorder.result = card_result(named, config, checks)
    recorder.finish().write(folder)
    console.print()
    show_report(console, report(folder))
    return 1 if num_failed or card_is_bad(checks) else 0


def _check(console: Console, mixer: NamedMixer, *, with_compile: bool) -> list[Check]:
    checks = []
    for check in check_contract(mixer.config, with_compile=with_compile):
        checks.append(check)
        detail = f": {check.detail}" if check.detail else ""
        console.print(f"{check.status:4}  {check.name}{detail}", soft_wrap=True, highlight=False, markup=False)
    return checks


def _measure_cost(console: Console, mixer: NamedMixer, config: CardConfig, *, folder: Path, command: str) -> None:
    # Mixers alone have more channels than the models, so attention takes its usual heads.
    named = {mixer.name: mixer.config} | {name: one for name, one in references(32).items() if name != mixer.name}
    subjects = [mixer_subject(name, one, config.scaling) for name, one in named.items()]
    settings = {"mixers": [repr(one) for one in named.values()], "source_sha256": mixer.source_sha256}
    rounds = measure_scaling(subjects, config.scaling, out=folder, command=command, settings=settings)
    watch_rounds(console, "cost", rounds)
