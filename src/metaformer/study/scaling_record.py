"""Claim C11 by measurement: time, memory and parameters of each token mixer against the number of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.analysis.scaling import (
    Subject,
    Times,
    count_exponent,
    fit_exponent,
    size_costs,
    time_round,
)
from metaformer.block.site import Site
from metaformer.block.token_mixers import TokenMixerConfig
from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import RUN_FILE, CostSeries, Recorder, Scaling, SizeCost, read_record
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.study.rounds import Share, clear_rounds, rounds

SCALING = "scaling"  # folder inside that of the study


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """What is measured."""

    dim: int = 64  # channels of a mixer on its own
    sides: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64)  # of square grids, in tokens; in a model, of the first stage
    batch_size: int = 1
    num_rounds: int = 15
    seconds: float = 0.05  # of timing, at each size in each round

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 2 or list(self.sides) != sorted(set(self.sides)):
            raise ConfigError(f"ScalingConfig.sides must rise from 2 tokens on; got {', '.join(map(str, self.sides))}.")
        for name in ("dim", "batch_size", "num_rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ScalingConfig.{name} must be at least 1; got {getattr(self, name)}.")


def mixer_subject(name: str, mixer: TokenMixerConfig, config: ScalingConfig) -> Subject:
    """A token mixer on its own."""
    return Subject(name=name, level="mixer", build=partial(_mixer, mixer, config))


def model_subject(name: str, model: MetaFormerConfig, config: ScalingConfig) -> Subject:
    """A whole model, built for each size."""
    return Subject(name=name, level="model", build=partial(_model, model, config))


def _mixer(mixer: TokenMixerConfig, config: ScalingConfig, side: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    module = mixer.build(Site(config.dim, (side, side), 0, 0))
    return module, torch.randn(config.batch_size, config.dim, side, side)


def _model(model: MetaFormerConfig, config: ScalingConfig, side: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    size = max(side * max(model.reductions[0]), *model.total_stride)
    sized = replace(model, image_size=(size, size), num_classes=10)
    return MetaFormer(sized), torch.randn(config.batch_size, sized.in_chans, size, size)


def measure_scaling(
    subjects: Sequence[Subject], config: ScalingConfig, *, out: Path, command: str, settings: Mapping[str, Any]
) -> Iterator[tuple[int, int]]:
    """Measures what is not measured yet and writes the record; yields (rounds done, rounds in all).

    Args:
        subjects: What is measured.
        config: How.
        out: Folder of the study; the record lies in `scaling/` there.
        command: The command that measures again.
        settings: What the subjects are made of; a record of other settings is measured again.
    """
    folder = out / SCALING
    asked = {"scaling": to_dict(config), **settings}
    if is_measured(folder, asked):
        yield config.num_rounds, config.num_rounds
        return
    recorder = Recorder(Scaling, name=SCALING, config=asked, command=command, seed=None)
    times: dict[tuple[str, str], list[Times]] = {(one.level, one.name): [] for one in subjects}
    share = Share()
    for number, rows in rounds(folder, asked, config.num_rounds, partial(_round, subjects, config)):
        for key, by_size in times.items():
            by_size.append({row["tokens"]: row["ms"] for row in rows if (row["level"], row["name"]) == key})
        for row in rows:
            share.add(row["wall_s"], row["cpu_s"])
        yield number + 1, config.num_rounds
    recorder.result = Scaling(
        batch_size=config.batch_size,
        num_threads=1,
        num_rounds=config.num_rounds,
        cpu_share=share.value,
        series=tuple(_series(one, size_costs(one, config.sides), times[one.level, one.name]) for one in subjects),
    )
    recorder.finish().write(folder)
    clear_rounds(folder)


def _round(subjects: Sequence[Subject], config: ScalingConfig) -> list[dict[str, Any]]:
    timed = time_round(subjects, config.sides, seconds=config.seconds)
    return [
        {"level": level, "name": name, "tokens": tokens, "ms": timing.latency_ms}
        | {"wall_s": timing.wall_s, "cpu_s": timing.cpu_s}
        for level, name, tokens, timing in timed
    ]


def is_measured(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds a record of these settings."""
    if not (folder / RUN_FILE).is_file():
        return False
    try:
        return read_record(folder).config == settings
    except DataError:
        return False


def _series(subject: Subject, costs: Sequence[SizeCost], times: Sequence[Times]) -> CostSeries:
    return CostSeries(
        name=subject.name,
        level=subject.level,
        points=tuple(replace(one, times_ms=tuple(by_size[one.num_tokens] for by_size in times)) for one in costs),
        time_exponent=fit_exponent(times),
        macs_exponent=count_exponent({one.num_tokens: one.macs for one in costs}),
        params_exponent=count_exponent({one.num_tokens: one.params for one in costs}),
        memory_exponent=count_exponent({one.num_tokens: one.memory_mib for one in costs}),
    )
