"""What holds for the digits, whose training images are drawn anew in every epoch."""

import hashlib
import sys

import pytest
import torch

from metaformer.core.errors import ConfigError, MissingExtraError
from metaformer.data.sources import open_data

DIGITS = ("cluttered-digits", "digits")


@pytest.fixture(scope="module", params=DIGITS)
def source(request):
    return open_data(request.param)


def splits(source):
    return {
        "train": source.train_epoch(seed=0, epoch=0),
        "validation": source.validation(),
        "test": source.test(),
    }


def fingerprint(source):
    tensors = [tensor for split in splits(source).values() for tensor in split]
    return hashlib.sha256(b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()


def test_facts_describe_the_images(source):
    facts = source.facts
    assert facts.name in DIGITS
    for name, (images, labels) in splits(source).items():
        assert images.shape == (getattr(facts, f"num_{name}"), facts.in_chans, *facts.image_size)
        assert images.dtype == torch.float32
        assert labels.unique().tolist() == list(range(len(facts.class_names)))
    assert len(facts.mean) == len(facts.std) == facts.in_chans
    assert "997" in facts.description


def test_mean_and_standard_deviation_normalise(source):
    for images, _ in splits(source).values():
        # Shifts push a little of a digit off the image.
        assert abs(float(images.mean())) < 0.1
        assert abs(float(images.std()) - 1) < 0.05


def test_pixels_lie_between_black_and_white_before_normalisation(source):
    mean, std = source.facts.mean[0], source.facts.std[0]
    for images, _ in splits(source).values():
        pixels = images * std + mean
        assert -1e-5 < float(pixels.min()) < 1e-5
        assert 0.99 < float(pixels.max()) < 1 + 1e-5


def test_a_training_epoch_is_decided_by_seed_and_epoch_alone(source):
    first = source.train_epoch(seed=3, epoch=5)
    torch.manual_seed(123)
    source.train_epoch(seed=4, epoch=4)
    again = type(source)().train_epoch(seed=3, epoch=5)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)], ids=["next epoch", "next seed"])
def test_training_epochs_differ(source, seed, epoch):
    images, labels = source.train_epoch(seed=0, epoch=0)
    other_images, other_labels = source.train_epoch(seed=seed, epoch=epoch)
    assert not torch.equal(labels, other_labels)
    assert not torch.equal(images, other_images)
    assert torch.equal(labels.bincount(), other_labels.bincount())


def test_seed_and_epoch_are_not_added_up(source):
    one, other = source.train_epoch(seed=0, epoch=1), source.train_epoch(seed=1, epoch=0)
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_validation_and_test_are_fixed(source, split):
    images, labels = getattr(source, split)()
    source.train_epoch(seed=0, epoch=0)
    torch.manual_seed(99)
    for again in (source, type(source)()):
        assert torch.equal(getattr(again, split)()[0], images)
        assert torch.equal(getattr(again, split)()[1], labels)


def test_the_global_random_state_is_neither_used_nor_changed(source):
    state = torch.get_rng_state()
    type(source)().train_epoch(seed=0, epoch=0)
    source.validation()
    assert torch.equal(torch.get_rng_state(), state)


def test_another_process_gets_the_same_images(run_python):
    # In one go: a process of its own takes seconds to start.
    code = f"""
import hashlib
from metaformer.data.sources import open_data
for name in {DIGITS}:
    source = open_data(name)
    parts = [source.train_epoch(seed=0, epoch=0), source.validation(), source.test()]
    data = b"".join(tensor.contiguous().numpy().tobytes() for part in parts for tensor in part)
    print(name, hashlib.sha256(data).hexdigest())
"""
    expected = [f"{name} {fingerprint(open_data(name))}" for name in DIGITS]
    assert run_python(code, PYTHONHASHSEED="7").splitlines() == expected


def test_an_unknown_name_fails_and_names_the_nearest():
    with pytest.raises(
        ConfigError,
        match=r"^unknown data source 'cluterd-digits'\. Did you mean 'cluttered-digits'\? "
        r"Known: cluttered-digits, digits, mnist1d, ising3d; or a folder of class folders, ",
    ):
        open_data("cluterd-digits")


@pytest.mark.parametrize("name", DIGITS)
def test_without_scikit_learn_the_error_names_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        MissingExtraError, match=r"^the embedded digits needs the extra 'train'\. .*'metaformer\[train\]'$"
    ):
        open_data(name)
