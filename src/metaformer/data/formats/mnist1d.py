"""MNIST-1D: signals made by formula from ten templates of 12 points.

Source: arXiv:2011.14439, by its authors' package. Published accuracies: logistic regression 32, MLP 68, GRU 91,
convolutions 94, humans 96; with shuffled places, convolutions 56.
"""

import random

import numpy as np
import torch
from torch import Tensor

from metaformer.core.errors import MissingExtraError
from metaformer.data.held.arrays import Arrays


def open_mnist1d() -> Arrays:
    """4,000 signals for training and 1,000 for the test, of 40 samples, as the authors' default settings make them.

    Raises:
        MissingExtraError: The package that makes them is not installed.
    """
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError:
        raise MissingExtraError(need="MNIST-1D", extra="signals") from None
    # Making them seeds every generator; those of the caller go on as if nothing had been drawn.
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        made = make_dataset(get_dataset_args())
    random.setstate(states[0])
    np.random.set_state(states[1])

    def split(suffix: str) -> tuple[Tensor, Tensor]:
        signals = torch.from_numpy(np.asarray(made[f"x{suffix}"], dtype=np.float32))
        return signals[:, None], torch.from_numpy(np.asarray(made[f"y{suffix}"], dtype=np.int64))

    return Arrays(
        split(""),
        split("_test"),
        name="mnist1d",
        title="MNIST-1D",
        description=(
            "Signals of 40 samples made by formula (arXiv:2011.14439): a template of a digit, stretched, moved, "
            "sheared and covered by noise. 3,600 for training, 400 for validation, 1,000 for the test."
        ),
        class_names=tuple("0123456789"),
    )
