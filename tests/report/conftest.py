"""Synthetic studies: records as `metaformer study` writes them, without training anything."""

import math
import random
from pathlib import Path
from typing import Any

import pytest

from metaformer.core.run_record import Metric, RunRecord

# name, title, token mixers, paper's top-1, true accuracy, params, MACs, images/s, control
VARIANTS = (
    ("pooling", "Pooling 3x3", ["pooling"] * 4, 77.2, 81.0, 212_000, 9_400_000, 1450, False),
    ("identity", "Identity", ["identity"] * 4, 74.3, 76.4, 212_000, 9_300_000, 1720, False),
    ("random", "Random matrix", ["random"] * 4, 75.8, 78.9, 212_000, 12_900_000, 1300, False),
    ("conv", "Depthwise convolution", ["depthwise_conv"] * 4, 78.1, 83.4, 216_000, 9_800_000, 1100, False),
    (
        "hybrid",
        "Attention, stages 3-4",
        ["pooling"] * 2 + ["attention"] * 2,
        81.0,
        82.9,
        268_000,
        11_800_000,
        980,
        False,
    ),
    ("mlp", "Spatial MLP, stages 3-4", ["pooling"] * 2 + ["mlp"] * 2, 77.9, 81.2, 231_000, 10_100_000, 1210, False),
    ("batch_norm", "Batch norm", ["pooling"] * 4, 76.4, 81.6, 212_000, 9_400_000, 1390, False),
    ("no_mlp", "No channel MLP", ["pooling"] * 4, 5.7, 10.3, 41_000, 1_900_000, 3100, True),
)


def _run(row: tuple[Any, ...], seed: int, *, epochs: int, classes: int) -> RunRecord:
    name, _, mixers, _, true, params, macs, speed, control = row
    noise = random.Random(f"{name} {seed}")
    common = random.Random(f"seed {seed}").gauss(0, 0.8)
    final = true + common + noise.gauss(0, 0.5) if not control else true + noise.gauss(0, 0.3)
    rise = [1 - math.exp(-3.2 * (epoch + 1) / epochs) for epoch in range(epochs)]
    accuracy = [10 + (final - 10) * part + noise.gauss(0, 0.7) for part in rise]
    loss = [2.3 - 0.024 * (final - 10) * part + noise.gauss(0, 0.02) for part in rise]
    metrics = {
        "test_accuracy": Metric(value=final, unit="%"),
        "validation_accuracy": Metric(value=accuracy[-1], unit="%"),
        "test_loss": Metric(value=loss[-1], unit="nats"),
        "train_loss": Metric(value=loss[-1] - 0.1, unit="nats"),
        "params": Metric(value=float(params), unit="parameters"),
        "frozen": Metric(value=3136.0 if name == "random" else 0.0, unit="numbers"),
        "macs": Metric(value=float(macs), unit="MACs"),
        "images_per_second": Metric(value=speed * noise.uniform(0.97, 1.03), unit="images/s"),
    }
    return RunRecord(
        kind="train",
        name=name,
        command=f"metaformer train --variant {name} --seed {seed}",
        config={
            "name": name,
            "model": {
                "dims": [32, 64, 160, 256],
                "token_mixers": [{"type": mixer} for mixer in mixers],
                "norm": {"type": "batch_norm" if name == "batch_norm" else "group_norm", "eps": 1e-5},
                "channel_mlp": None if control else {"type": "channel_mlp", "ratio": 4.0},
            },
            "train": {"epochs": epochs, "learning_rate": 0.002, "optimizer": "adamw"},
            "seed": seed,
        },
        seed=seed,
        metrics=metrics,
        history={
            "epoch": [float(epoch) for epoch in range(1, epochs + 1)],
            "train_loss": [value - 0.1 for value in loss],
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "learning_rate": [0.002 * (1 - part) for part in rise],
            "images_per_second": [speed * noise.uniform(0.9, 1.1) for _ in range(epochs)],
        },
        labels={
            "class_names": [str(digit) for digit in range(classes)],
            "per_class_accuracy": [final + noise.gauss(0, 3) for _ in range(classes)],
        },
        machine={"processor": "Example CPU 3000", "cores": 2, "torch_threads": 2, "memory_gib": 16.0},
        versions={"python": "3.11.7", "torch": "2.9.0", "metaformer": "0.1.0"},
        commit="b3e3e1a00000",
        started=f"2026-05-09T10:{seed % 60:02d}:00+00:00",
        wall_time_s=41.0 + seed,
    )


def _study(rows: list[tuple[Any, ...]], *, seeds: list[int], samples_png: str | None) -> RunRecord:
    variants = [
        {"name": row[0], "title": row[1], "change": f"{row[2][0]}, then {row[2][3]}", "paper_top1": row[3]}
        | {"paper_note": "arXiv:2111.11418, Table 5", "comparable": not row[8], "control": row[8]}
        for row in rows
    ]
    labels: dict[str, Any] = {
        "title": "Token mixers on cluttered digits",
        "question": "Does it matter which token mixer sits in the block?",
        "base": "pooling",
        "primary": "test_accuracy",
        "data": {
            "name": "cluttered-digits",
            "title": "Cluttered digits",
            "description": "Real scans of handwritten digits, placed at random on a canvas of 32 x 32 pixels among "
            "pieces of other digits. The pieces carry no information about the class.",
            "num_train": 1000,
            "num_validation": 300,
            "num_test": 497,
            "num_classes": 10,
            "chance_accuracy": 10.0,
        },
        "variants": variants,
    }
    return RunRecord(
        kind="study",
        name="quick",
        command="metaformer study quick --out runs/quick",
        config={"seeds": seeds, "train": {"epochs": 15, "batch_size": 64}},
        seed=None,
        metrics={"wall_time": Metric(value=613.0, unit="s")},
        labels=labels | ({"samples_png": samples_png} if samples_png else {}),
        machine={"processor": "Example CPU 3000", "cores": 2},
        versions={"python": "3.11.7"},
        commit="b3e3e1a00000",
        started="2026-05-09T10:00:00+00:00",
        wall_time_s=613.0,
    )


def write_study(
    folder: Path,
    *,
    rows: list[tuple[Any, ...]] | None = None,
    num_seeds: int = 3,
    epochs: int = 15,
    classes: int = 10,
    samples_png: str | None = None,
) -> Path:
    """Writes a complete study; a test then breaks what it wants broken."""
    rows, seeds = rows or list(VARIANTS), list(range(num_seeds))
    _study(rows, seeds=seeds, samples_png=samples_png).write(folder)
    for row in rows:
        for seed in seeds:
            _run(row, seed, epochs=epochs, classes=classes).write(folder / row[0] / f"seed{seed}")
    return folder


@pytest.fixture
def make_study(tmp_path):
    def make(**options):
        return write_study(tmp_path / "quick", **options)

    return make


@pytest.fixture
def study_folder(make_study):
    return make_study()
