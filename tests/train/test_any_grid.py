"""Signals and volumes are trained on as pictures are."""

from dataclasses import replace

import numpy as np
import pytest

from metaformer.train.config import Run
from metaformer.train.run import train

SIZES = {"signals": (24,), "volumes": (6, 6, 8)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_arrays_of_any_number_of_axes_are_learned_from(tiny, short, tmp_path, size):
    labels = np.arange(40) % 2
    noise = np.random.default_rng(0).normal(size=(40, 1, *size))
    np.savez(tmp_path / "x.npz", x=noise + 3 * labels.reshape(-1, *(1,) * (1 + len(size))), y=labels)
    run = Run(name="arrays", model=tiny, data=f"npz:{tmp_path / 'x.npz'}", train=replace(short, epochs=8), seed=0)
    record = train(run, out=tmp_path / "run")
    # Below the loss of guessing between two classes.
    assert record.result.train_loss < np.log(2)
