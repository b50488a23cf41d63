"""One run from first weights to run record."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from metaformer.core.configs import to_dict
from metaformer.core.machine import provenance
from metaformer.core.run_record import Metric, RunRecord
from metaformer.core.seeding import key_seed
from metaformer.data.source import DataSource
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import WEIGHTS_FILE, save_weights
from metaformer.train.checkpoint import CHECKPOINT_FILE
from metaformer.train.config import TrainConfig
from metaformer.train.evaluation import Evaluation, evaluate
from metaformer.train.loop import EpochResult, History, train


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is trained, on what, how."""

    name: str
    model: MetaFormerConfig
    data: str  # name of the data source
    train: TrainConfig
    seed: int


def fit_to_data(config: MetaFormerConfig, data: DataSource) -> MetaFormerConfig:
    """The same architecture for the data's classes, channels, image size, mean and standard deviation."""
    facts = data.facts
    sized = replace(config, num_classes=len(facts.class_names), in_chans=facts.in_chans, image_size=facts.image_size)
    # Training saw whole images, so later use crops nothing away.
    return sized.with_preprocessing(mean=facts.mean, std=facts.std, crop_fraction=1.0)


def perform(
    run: Run, data: DataSource, folder: Path, *, command: str, costs: dict[str, Metric] | None = None
) -> Iterator[EpochResult]:
    """Trains, tests once, and leaves weights and a run record in the folder; continues what it finds there.

    Args:
        run: What to do.
        data: The opened data source of that name.
        folder: For checkpoint, weights and record.
        command: The command that does it again, for the record.
        costs: Metrics of the model that the record shall carry, measured elsewhere.

    Raises:
        ConfigError: The settings cannot work together.
        DivergedError: The loss is no longer finite.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    torch.manual_seed(key_seed("weights", run.seed))
    model = MetaFormer(fit_to_data(run.model, data))
    history: History = {}
    for result in train(model, data, run.train, seed=run.seed, folder=folder):
        history = result.history
        yield result
    test = evaluate(model, *data.test())
    save_weights(model, folder / WEIGHTS_FILE, class_names=data.facts.class_names)
    RunRecord(
        kind="train",
        name=run.name,
        command=command,
        config=to_dict(run),
        seed=run.seed,
        metrics=_metrics(history, test) | (costs or {}),
        history=history,
        labels={
            "class_names": list(data.facts.class_names),
            "per_class_accuracy": list(test.per_class_accuracy),
        },
        **provenance(started),
        wall_time_s=time.perf_counter() - clock,
    ).write(folder)
    # The record is there: what a resume would need is not needed any more.
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _metrics(history: History, test: Evaluation) -> dict[str, Metric]:
    return {
        "test_accuracy": Metric(value=test.accuracy, unit="%"),
        "test_loss": Metric(value=test.loss, unit="nats"),
        "validation_accuracy": Metric(value=history["validation_accuracy"][-1], unit="%"),
        "train_loss": Metric(value=history["train_loss"][-1], unit="nats"),
        "images_per_second": Metric(value=statistics.median(history["images_per_second"]), unit="images/s"),
    }
