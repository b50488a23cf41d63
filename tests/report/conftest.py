"""Synthetic studies: records as `metaformer study` writes them, without training anything."""

import math
import random
from pathlib import Path
from typing import Any

import pytest

from metaformer.core.machine import Machine
from metaformer.core.records import History, ModelCost, Record, Study, StudyData, Training, Variant

MACHINE = Machine(
    processor="Example CPU 3000", cores=2, torch_threads=2, memory_gib=16.0, system="Linux", accelerator=None
)
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


def _run(row: tuple[Any, ...], seed: int, *, epochs: int, classes: int) -> Record[Training]:
    name, _, mixers, _, true, params, macs, speed, control = row
    noise = random.Random(f"{name} {seed}")
    common = random.Random(f"seed {seed}").gauss(0, 0.8)
    final = true + common + noise.gauss(0, 0.5) if not control else true + noise.gauss(0, 0.3)
    rise = [1 - math.exp(-3.2 * (epoch + 1) / epochs) for epoch in range(epochs)]
    accuracy = [10 + (final - 10) * part + noise.gauss(0, 0.7) for part in rise]
    loss = [2.3 - 0.024 * (final - 10) * part + noise.gauss(0, 0.02) for part in rise]
    return Record(
        kind="training",
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
        result=Training(
            test_accuracy_percent=final,
            test_loss=loss[-1],
            validation_accuracy_percent=accuracy[-1],
            train_loss=loss[-1] - 0.1,
            images_per_second=speed * noise.uniform(0.97, 1.03),
            train_time_s=40.0,
            peak_memory_mib=512.0,
            best_epoch=epochs,
            kept_epoch=epochs,
            cost=ModelCost(params=params, frozen=3136 if name == "random" else 0, macs=int(macs)),
            history=History(
                epoch=tuple(range(1, epochs + 1)),
                seconds=tuple(2.0 * epoch for epoch in range(1, epochs + 1)),
                train_loss=tuple(value - 0.1 for value in loss),
                validation_loss=tuple(loss),
                validation_accuracy_percent=tuple(accuracy),
                learning_rate=tuple(0.002 * (1 - part) for part in rise),
                images_per_second=tuple(speed * noise.uniform(0.9, 1.1) for _ in range(epochs)),
            ),
            class_names=tuple(str(digit) for digit in range(classes)),
            per_class_accuracy_percent=tuple(min(100.0, final + noise.gauss(0, 3)) for _ in range(classes)),
        ),
        machine=MACHINE,
        versions={"python": "3.11.7", "torch": "2.9.0", "metaformer": "0.1.0"},
        commit="b3e3e1a00000",
        started=f"2026-05-09T10:{seed % 60:02d}:00+00:00",
        wall_time_s=41.0 + seed,
    )


def _study(rows: list[tuple[Any, ...]], *, seeds: list[int], samples_png: str | None) -> Record[Study]:
    return Record(
        kind="study",
        name="quick",
        command="metaformer study quick --out runs/quick",
        config={"seeds": seeds, "train": {"epochs": 15, "batch_size": 64}},
        seed=None,
        result=Study(
            title="Token mixers on cluttered digits",
            question="Does it matter which token mixer sits in the block?",
            base=rows[0][0],
            data=StudyData(
                name="cluttered-digits",
                title="Cluttered digits",
                description="Real scans of handwritten digits, placed at random on a canvas of 32 x 32 pixels among "
                "pieces of other digits. The pieces carry no information about the class.",
                num_train=1000,
                num_validation=300,
                num_test=497,
                num_classes=10,
                chance_accuracy_percent=10.0,
            ),
            variants=tuple(
                Variant(
                    name=row[0],
                    title=row[1],
                    change=f"{row[2][0]}, then {row[2][3]}",
                    paper_top1_percent=row[3],
                    paper_note="arXiv:2111.11418, Table 5",
                    control=row[8],
                )
                for row in rows
            ),
            seeds=tuple(seeds),
            samples_png=samples_png,
        ),
        machine=MACHINE,
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
