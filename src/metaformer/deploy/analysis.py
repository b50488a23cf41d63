"""Models and images by name, looked at by probes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.analysis.analyze import Watch, parse_probes, run_probes
from metaformer.analysis.probe import Batch, Exhibit, Inputs
from metaformer.core.devices import choose_device
from metaformer.core.errors import ConfigError
from metaformer.core.records import recording
from metaformer.core.records.analysis import Analysis
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.found import Found
from metaformer.data.held.hold import hold
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataSource
from metaformer.data.sources import find_data
from metaformer.deploy.exhibits import Opened, open_model


def analyze(
    models: str | nn.Module | Sequence[str | nn.Module | Exhibit],
    *,
    data: str | Inputs,
    probes: str = "all",
    split: str = "validation",
    num_images: int = 64,
    batch_size: int = 16,
    image_size: int | tuple[int, int] | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    command: str = "",
    watch: Watch | None = None,
) -> Analysis:
    """Looks at models by probes, side by side.

    A call with the same folder and settings goes on where the last was interrupted.

    Args:
        models: Run folders, weights files, names of the zoo or `timm/NAME`; or modules of any kind.
        data: Labelled images in any form that `open_data` takes; or what the models shall be shown.
        probes: `all`, or names with options: `rank_collapse,curvature(batch_size=4)`. See metaformer.analysis.PROBES.
        split: validation or test.
        num_images: At most, spread evenly over the split.
        batch_size: Images at once.
        image_size: Side, or height and width, in pixels; the first model's own if not given.
        device: auto, cpu, cuda, ...
        out: Folder for run.json and for each finished probe; None keeps nothing.
        command: That does it again, for the record.
        watch: Called with the name of a probe, and how many of its steps are done.

    Raises:
        ConfigError: A name or setting is wrong, or a probe that was named cannot be applied. Of all, what cannot be
            applied is left out and said so.
        DataError: Weights or images cannot be read.
    """
    if num_images < 1 or batch_size < 1:
        raise ConfigError(f"num_images and batch_size must be at least 1; got {num_images} and {batch_size}.")
    chosen = parse_probes(probes)
    given = [models] if isinstance(models, str | nn.Module) else list(models)
    target = choose_device(device)
    if isinstance(data, Inputs):
        inputs, source = data, None
    else:
        source = _open_source(data, given, image_size, target)
        inputs = _inputs(source, split=split, num_images=num_images, batch_size=batch_size)
    exhibits = _exhibits(given, source=source, image_size=image_size, device=target)
    settings: dict[str, Any] = {
        "models": [
            exhibit.name if isinstance(word, nn.Module) else str(word)
            for word, exhibit in zip(given, exhibits, strict=True)
        ],
        "data": data if isinstance(data, str) else "given as tensors",
        "split": split,
        "num_images": num_images,
        "batch_size": batch_size,
        "image_size": image_size,
    }
    folder = Path(out) if out else None
    name = ", ".join(exhibit.name for exhibit in exhibits)
    with recording(Analysis, name=name, config=settings | {"probes": probes}, command=command, out=folder) as recorder:
        recorder.result = run_probes(
            exhibits,
            inputs,
            chosen,
            data=settings["data"],
            out=folder,
            settings=settings,
            skip=probes == "all",
            watch=watch,
        )
    assert recorder.result is not None
    return recorder.result


def _open_source(
    data: str,
    given: Sequence[str | nn.Module | Exhibit],
    image_size: int | tuple[int, int] | None,
    device: torch.device,
) -> DataSource:
    """The images as the first model that is named takes them."""
    found = find_data(data)
    if not isinstance(found, Found):
        return found
    words = [word for word in given if isinstance(word, str)]
    if not words:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        return hold(found, Preparation(image_size=size), num_workers=0)
    model_input = open_model(words[0], image_size=image_size, device=device).config.model_input
    return hold(found, Preparation.of(model_input, AugmentationConfig()), num_workers=0)


def _exhibits(
    given: Sequence[str | nn.Module | Exhibit],
    *,
    source: DataSource | None,
    image_size: int | tuple[int, int] | None,
    device: torch.device,
) -> tuple[Exhibit, ...]:
    facts = source.facts if source else None
    found: list[Exhibit] = []
    names = _short_names([word for word in given if isinstance(word, str)])
    for word in given:
        if isinstance(word, Exhibit):
            found.append(word)
        elif isinstance(word, nn.Module):
            found.append(Exhibit(name=type(word).__name__, model=word.to(device)))
        else:
            opened = open_model(word, image_size=image_size, data=facts, device=device)
            if facts is not None:
                _require_fit(opened, source)
            found.append(opened.exhibit(name=names[word], facts=facts))
    return tuple(found)


def _short_names(words: Sequence[str]) -> dict[str, str]:
    """Word -> its last part, or as many of its parts as tell it from the others: the runs of a study are all seed0."""
    parts = {word: [part for part in word.split("/") if part] or [word] for word in words}
    for number in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {word: "/".join(of_word[-number:]) for word, of_word in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {word: word for word in words}


def _require_fit(opened: Opened, source: DataSource | None) -> None:
    assert source is not None
    facts, config = source.facts, opened.config
    if config.in_chans != facts.in_chans or tuple(config.image_size) != tuple(facts.image_size):
        raise ConfigError(
            f"{opened.word} takes images of {config.in_chans}x{config.image_size[0]}x{config.image_size[1]}; "
            f"{facts.name} has {facts.in_chans}x{facts.image_size[0]}x{facts.image_size[1]}. Try --image-size "
            f"{facts.image_size[0]}, or models of one size."
        )


def _inputs(source: DataSource, *, split: str, num_images: int, batch_size: int) -> Inputs:
    facts = source.facts
    if split not in ("validation", "test"):
        raise ConfigError(f"split must be validation or test; got {split!r}.")
    available = facts.num_test if split == "test" else facts.num_validation
    if not available:
        raise ConfigError(f"{facts.name} has no {split} split. Try --split validation.")
    batches = _Spread(source=source, split=split, num_images=min(num_images, available), batch_size=batch_size)
    return Inputs(
        batches=batches,
        num_batches=-(-batches.num_images // batch_size),
        augmented=_Augmented(source=source, batch_size=min(batch_size, facts.num_train)),
        mean=facts.mean,
        std=facts.std,
        class_names=facts.class_names,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Spread:
    """So many images with even distances, read again each time: images in the order of classes show all classes."""

    source: DataSource
    split: str
    num_images: int
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        facts = self.source.facts
        available = facts.num_test if self.split == "test" else facts.num_validation
        left = self.num_images
        for images, labels in self.source.evaluation_batches(
            self.split, batch_size=self.batch_size, world_size=max(1, available // self.num_images)
        ):
            yield images[:left], labels[:left]
            left -= len(images)
            if left <= 0:
                return


@dataclass(frozen=True, kw_only=True, eq=False)
class _Augmented:
    source: DataSource
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        plan: Any = BatchPlan(seed=0, epoch=0, batch_size=self.batch_size)
        yield from islice(self.source.train_batches(plan), plan.num_steps(self.source.facts.num_train))
