"""Faults in trainings: what lies in the folder of a stopped run is damaged, or the disk or the numbers fail on the way.

Right is a run that ends bit for bit as one without a fault, or one line that says why not.
"""

import errno
import json
import math
import os
import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.train.conftest import Stripes, tiny_config

from metaformer.models.weights import WEIGHTS_FILE
from metaformer.train import checkpoint
from metaformer.train.config import Run, TrainConfig
from metaformer.train.loop import EpochResult
from metaformer.train.run import perform
from metaformer.train.run_folder import LOCK_FILE

pytestmark = pytest.mark.slow

RUN = Run(
    name="run",
    model=tiny_config(),
    data="stripes",
    train=TrainConfig(epochs=3, batch_size=8, lr=5e-3, warmup_epochs=1.0, ema_decay=0.9, clip_grad_norm=1.0),
    seed=0,
)
FILES = ("checkpoint-0001-000000.pt", "checkpoint-0002-000000.pt", "best.pt", "log.csv")
NUM_FLIPS = 6


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a run that was stopped after two epochs of three, and the weights of one that was not."""
    torch.set_num_threads(1)
    whole, half = (tmp_path_factory.mktemp(name) for name in ("whole", "half"))
    train(RUN, Stripes(), whole)
    results = perform(RUN, Stripes(), half, command="")
    for _ in range(2):
        next(result for result in results if isinstance(result, EpochResult))
    results.close()
    return half, load_file(whole / WEIGHTS_FILE)


def train(run, data, folder):
    """All results of a run."""
    return list(perform(run, data, folder, command=""))


def damages(random):
    """What can become of a file."""

    def flip(path):
        raw = bytearray(path.read_bytes())
        raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
        path.write_bytes(bytes(raw))

    def cut(path):
        path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size)])

    yield "removed", Path.unlink
    yield "empty", lambda path: path.write_bytes(b"")
    yield "other bytes", lambda path: path.write_bytes(random.randbytes(1000))
    yield "longer", lambda path: path.write_bytes(path.read_bytes() + random.randbytes(10))
    yield "a folder", lambda path: (path.unlink(), path.mkdir())
    yield "a pipe", lambda path: (path.unlink(), os.mkfifo(path))
    yield "a link to nothing", lambda path: (path.unlink(), path.symlink_to("nothing"))
    yield from ((f"cut short, {i}", cut) for i in range(2))
    yield from ((f"a flipped bit, {i}", flip) for i in range(NUM_FLIPS))


def finish(kind, what, folder, expected, *, must_end=True):
    """Goes on with a run, and counts whether it ends as it should."""
    result = kind.run(what, partial(train, RUN, Stripes(), folder))
    if isinstance(result, list):
        found = load_file(folder / WEIGHTS_FILE)
        same = all(torch.equal(value, found[name]) for name, value in expected.items())
        kind.note(f"{what}, weights", same, "other weights than without the fault")
    elif must_end:
        kind.note(f"{what}, end", False, f"it did not end: {result}")
    return result


def test_damaged_files_of_a_stopped_run(stopped, tries, tmp_path):
    half, expected = stopped
    for name in FILES:
        for what, damage in damages(random.Random(name)):
            folder = tmp_path / "run"
            shutil.copytree(half, folder)
            damage(folder / name)
            # What is in the place of a file that must be written can only be told.
            in_the_way = what == "a folder" and name in ("best.pt", "log.csv", FILES[1])
            finish(tries(f"training: {name}"), f"{name} {what}", folder, expected, must_end=not in_the_way)
            shutil.rmtree(folder)


def test_mixed_up_and_foreign_files(stopped, tries, tmp_path):
    half, expected = stopped
    older, newer, best, _ = FILES
    kind = tries("training: files mixed up")

    def swap(folder):
        held = (folder / older).read_bytes()
        (folder / newer).replace(folder / older)
        (folder / newer).write_bytes(held)

    faults = {
        "swapped": swap,
        "the older in the newer's place": lambda folder: shutil.copy(folder / older, folder / newer),
        "the best in the newest's place": lambda folder: shutil.copy(folder / best, folder / newer),
        "a checkpoint as the best": lambda folder: shutil.copy(folder / older, folder / best),
        "the log as a checkpoint": lambda folder: shutil.copy(folder / "log.csv", folder / newer),
        "a name far ahead": lambda folder: shutil.copy(folder / older, folder / "checkpoint-9999-000000.pt"),
        "a half-written file": lambda folder: (folder / f".{newer}.abcdefgh.part").write_bytes(b"half"),
        "a stale lock": lambda folder: (folder / LOCK_FILE).write_text(
            json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "started": "", "process_start": "0"})
        ),
        "a lock of nobody": lambda folder: (folder / LOCK_FILE).write_bytes(b"\xff"),
        "no older one": lambda folder: (folder / older).unlink(),
    }
    for what, fault in faults.items():
        folder = tmp_path / "run"
        shutil.copytree(half, folder)
        fault(folder)
        finish(kind, what, folder, expected)
        shutil.rmtree(folder)


def test_a_disk_that_fills_up(stopped, tries, tmp_path, monkeypatch):
    half, expected = stopped
    kind, plain = tries("training: a full disk"), torch.save
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        for after in range(2):
            folder, left = tmp_path / "run", [after]
            shutil.copytree(half, folder)

            def save(state, file, left=left, number=number):
                if not left[0]:
                    raise OSError(number, os.strerror(number))
                left[0] -= 1
                plain(state, file)

            with monkeypatch.context() as patched:
                patched.setattr(checkpoint.torch, "save", save)
                kind.run(
                    f"error {number} after {after}",
                    lambda folder=folder: list(perform(RUN, Stripes(), folder, command="")),
                )
            finish(kind, f"again after error {number}, {after}", folder, expected)
            shutil.rmtree(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none(tries, tmp_path, value):
    kind = tries("training: numbers that are none")
    for split, epoch in (("train", 0), ("train", 1), ("train", 2), ("validation", 0), ("test", 0)):

        class Broken(Stripes):
            def train_epoch(self, *, seed, epoch, at=epoch, split=split):
                images, labels = super().train_epoch(seed=seed, epoch=epoch)
                images[-1] = value if split == "train" and epoch == at else images[-1]
                return images, labels

            def validation(self, split=split):
                images, labels = super().validation()
                return (images * value if split == "validation" else images), labels

            def test(self, split=split):
                images, labels = super().test()
                return (images * value if split == "test" else images), labels

        folder = tmp_path / f"{split}{epoch}"
        result = kind.run(
            f"{value} in {split}, epoch {epoch}", lambda f=folder, b=Broken: list(perform(RUN, b(), f, command=""))
        )
        kind.note(f"{value} in {split}, kind", getattr(result, "failure_kind", "") == "diverged", repr(result))
    wild = replace(RUN, train=replace(RUN.train, epochs=1, warmup_epochs=0.0, lr=1e38, clip_grad_norm=None))
    result = kind.run("a wild rate", partial(train, wild, Stripes(), tmp_path / "wild"))
    kind.note("a wild rate, kind", getattr(result, "failure_kind", "") == "diverged", repr(result))
