"""A small model that was trained on the digits, its run folder, and the digits as image files."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from metaformer.data.formats.digits import Digits
from metaformer.models.create import create_model
from metaformer.models.weights import read_weights, save_weights
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.train.config import Run, TrainConfig
from metaformer.train.run import perform

# In alphabetical order these are in another order than the classes.
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small gain nothing from two threads, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """The folder of a run: two epochs on the digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("digits_run")
    model = replace(TINY_POOLFORMER, dims=(12, 24, 32, 48))
    run = Run(
        name="pooling",
        model=replace(model, preprocessing=replace(model.preprocessing, crop_fraction=1.0)),
        data="digits",
        train=TrainConfig(epochs=2, batch_size=16, lr=5e-3, warmup_epochs=0.2),
        seed=0,
    )
    for _ in perform(run, Digits(), folder, command="in a test"):
        pass
    torch.set_num_threads(before)
    return folder


def _with_names(digits_run, target, names):
    stored = read_weights(digits_run)
    save_weights(create_model(stored.config, weights=digits_run), target / "model.safetensors", class_names=names)
    return target


@pytest.fixture(scope="session")
def named_run(digits_run, tmp_path_factory):
    """The same weights, with words for the classes."""
    return _with_names(digits_run, tmp_path_factory.mktemp("named_run"), WORDS)


@pytest.fixture(scope="session")
def nameless_run(digits_run, tmp_path_factory):
    """The same weights, which do not say what their classes are."""
    return _with_names(digits_run, tmp_path_factory.mktemp("nameless_run"), ())


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """The test scans as files, in a folder for each class that has the name of the digit: two/0012.png."""
    folder, data = tmp_path_factory.mktemp("scans"), Digits()
    images, labels = data.test()
    pixels = (images * data.facts.std[0] + data.facts.mean[0]).clamp(0, 1).mul(255).round().byte()
    for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        file = folder / WORDS[label] / f"{number:04}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(file)
    return folder
