"""What tests of the fast path share."""

import pytest
import torch

from metaformer.fast import trial
from metaformer.models.metaformer import MetaFormer


@pytest.fixture(autouse=True)
def own_trials(tmp_path, monkeypatch) -> None:
    """Trials of tests are not those of the user."""
    monkeypatch.setattr(trial, "cache_folder", lambda: tmp_path / "trials")
    monkeypatch.setattr(trial, "ROUNDS", 3)
    # However busy the machine is.
    monkeypatch.setattr(trial, "QUIET", 0.0)


@torch.no_grad()
def shaken(model: MetaFormer) -> MetaFormer:
    """The model with all parameters moved away from their first values, zeros and ones."""
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def shake():
    """A function that moves a model's parameters away from their first values."""
    return shaken
