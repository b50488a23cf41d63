"""How fast each variant's model answers, and how much memory it needs: measured side by side, after the training."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.analysis.timing import inference_memory_mib, time_calls
from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError
from metaformer.core.records import Recorder, Speed, Spread, VariantSpeed
from metaformer.data.source import DataSource
from metaformer.models.timm_model import build_model
from metaformer.study.config import PlannedVariant, StudyConfig
from metaformer.study.rounds import Share, clear_rounds, rounds
from metaformer.study.scaling_record import is_measured
from metaformer.train.first_model import fit_to_data

SPEED = "speed"  # folder inside that of the study


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """What is measured: inference on one thread."""

    batch_size: int = 1
    num_rounds: int = 5
    seconds: float = 0.1  # of timing, for each variant in each round

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"SpeedConfig.{name} must be at least 1; got {getattr(self, name)}.")


def measure_speed(
    study: StudyConfig, data: DataSource, config: SpeedConfig, *, out: Path, command: str
) -> Iterator[tuple[int, int]]:
    """Measures what is not measured yet and writes the record; yields (rounds done, rounds in all).

    A variant whose model cannot be built is left out: its runs say why.
    """
    folder = out / SPEED
    models = {variant.name: to_dict(variant)["model"] for variant in study.variants}
    asked: dict[str, Any] = {"speed": to_dict(config), "data": study.data, "models": models}
    if is_measured(folder, asked):
        yield config.num_rounds, config.num_rounds
        return
    recorder = Recorder(Speed, name=SPEED, config=asked, command=command, seed=None)
    subjects = _subjects(study.variants, data, config)
    times: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    share = Share()
    for number, by_name in rounds(folder, asked, config.num_rounds, partial(_round, subjects, config)):
        for name, timed in by_name.items():
            times[name].append(timed["latency_ms"])
            share.add(timed["wall_s"], timed["cpu_s"])
        yield number + 1, config.num_rounds
    recorder.result = Speed(
        batch_size=config.batch_size,
        num_threads=1,
        cpu_share=share.value,
        variants=tuple(_measured(subject, times[subject.name]) for subject in subjects),
    )
    recorder.finish().write(folder)
    clear_rounds(folder)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    name: str
    model: nn.Module
    x: Tensor


def _subjects(variants: Sequence[PlannedVariant], data: DataSource, config: SpeedConfig) -> list[_Subject]:
    x = torch.randn(config.batch_size, data.facts.in_chans, *data.facts.image_size)
    found = []
    for variant in variants:
        try:
            model = build_model(fit_to_data(variant.model, data)).eval()
        except ConfigError:
            continue
        found.append(_Subject(name=variant.name, model=model, x=x))
    return found


def _round(subjects: Sequence[_Subject], config: SpeedConfig) -> dict[str, dict[str, float]]:
    return {one.name: asdict(time_calls(one.model, one.x, seconds=config.seconds)) for one in subjects}


def _measured(subject: _Subject, times: Sequence[float]) -> VariantSpeed:
    return VariantSpeed(
        name=subject.name,
        latency_ms=Spread(median=median(times), low=min(times), high=max(times)),
        memory_mib=inference_memory_mib(subject.model, subject.x),
    )
