"""Corruptions grow with their strength, calibration equals another library's."""

import pytest
import torch
from torch import nn

from metaformer.analysis import Exhibit, Inputs, Journal
from metaformer.analysis.probes.robustness import CORRUPTIONS, Robustness, calibrate, corrupt
from metaformer.core.errors import ConfigError


def smooth(num=4, side=32):
    places = torch.linspace(0, 6, side)
    waves = (torch.sin(places)[:, None] * torch.cos(places)[None, :] + 1) / 2
    return waves.expand(num, 3, side, side).clone() * torch.rand(num, 3, 1, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_strengths_grow_and_are_the_same_each_time(name):
    pixels = smooth()
    distances = [(corrupt(pixels, name, strength) - pixels).square().mean().item() for strength in range(1, 6)]
    assert distances == sorted(distances)
    assert distances[0] > 0
    torch.testing.assert_close(corrupt(pixels, name, 3, key=1), corrupt(pixels, name, 3, key=1), rtol=0, atol=0)
    assert corrupt(pixels, name, 5).min() >= 0


def test_grey_images_are_corrupted_and_others_have_no_jpeg():
    for name in CORRUPTIONS:
        assert corrupt(torch.rand(2, 1, 16, 16), name, 5).shape == (2, 1, 16, 16)
    with pytest.raises(ConfigError, match="these have 2 channels"):
        corrupt(torch.rand(2, 2, 16, 16), "jpeg", 1)


def test_calibration_equals_torchmetrics():
    from torchmetrics.functional.classification import multiclass_calibration_error

    scores, labels = torch.randn(500, 5).mul(2).softmax(dim=1), torch.randint(0, 5, (500,))
    found = calibrate(scores.max(dim=1).values, scores.argmax(dim=1) == labels)
    expected = multiclass_calibration_error(scores, labels, num_classes=5, n_bins=15)
    assert found.error == pytest.approx(float(expected), abs=1e-6)
    assert sum(found.num_images) == 500


class Brightest(nn.Module):
    """Says which channel is brightest: contrast takes nothing from it, and classes may be in another order."""

    def forward(self, x):
        return 50 * x.mean(dim=(2, 3))[:, [1, 2, 0]]


def test_a_model_that_reads_means_keeps_its_accuracy_under_low_contrast():
    images = smooth(6) * 0.1 + torch.eye(3).repeat(2, 1)[:, :, None, None] * 0.5
    labels = torch.arange(3).repeat(2)
    inputs = Inputs(batches=[((images - 0.4) / 0.2, labels)], num_batches=1, mean=(0.4,) * 3, std=(0.2,) * 3)
    found = Robustness().measure((Exhibit(name="m", model=Brightest(), class_index=(2, 0, 1)),), inputs, Journal())
    row = dict(zip(found.panels[0].columns, found.panels[0].rows[0], strict=True))
    assert row["clean"] == row["contrast"] == row["blur"] == 100
    assert row["calibration error"] < 0.05


def test_images_without_classes_and_models_without_scores_get_one_line():
    images = torch.rand(4, 3, 16, 16)
    exhibit = Exhibit(name="m", model=Brightest())
    with pytest.raises(ConfigError, match="m: the images have no classes"):
        Robustness().measure((exhibit,), Inputs(batches=[(images, torch.full((4,), -1))], num_batches=1), Journal())
    with pytest.raises(ConfigError, match=r"m: the model has no score for each of the classes"):
        Robustness().measure((exhibit,), Inputs(batches=[(images, torch.full((4,), 7))], num_batches=1), Journal())
