"""Every form in which data are named, opened for training."""

import inspect

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError, MissingExtraError
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.formats.cluttered_digits import ClutteredDigits
from metaformer.data.held.large_images import LargeImages
from metaformer.data.held.memory_images import MemoryImages
from metaformer.data.held.streamed_images import StreamedImages
from metaformer.data.preparation import Preparation
from metaformer.data.source import DataSource
from metaformer.data.sources import open_data

PLAIN = AugmentationConfig(crop="shift", shift_px=1, color_jitter=0.0)


@pytest.fixture
def made(tmp_path, sets):
    """A data set of the format asked for, and its name."""

    def make(kind):
        if kind in ("folder", "folder:", "torch"):
            sets.folder(tmp_path, {"train": 40, "test": 9})
        elif kind == "wds:":
            pytest.importorskip("webdataset")
            sets.shard(tmp_path / "train-0.tar", range(40))
            sets.shard(tmp_path / "test-0.tar", range(40, 49))
        else:
            pytest.importorskip("datasets")
            sets.parquet(tmp_path / "train-00000-of-00001.parquet", range(40), 16)
            sets.parquet(tmp_path / "test-00000-of-00001.parquet", range(40, 49), 16)
        cache = tmp_path.parent / f"{tmp_path.name}-cache"
        return {
            "folder": str(tmp_path),
            "torch": f"torch/folder:{tmp_path}",
            "hfds": f"hfds/{tmp_path}:{cache}",
        }.get(kind, f"{kind}{tmp_path}")

    return make


@pytest.mark.parametrize("kind", ["folder", "folder:", "parquet:", "cifar10:", "wds:", "torch", "hfds"])
def test_every_form_trains_and_evaluates(made, batches, kind):
    source = open_data(made(kind), Preparation(augmentation=PLAIN))
    assert isinstance(source, MemoryImages)
    assert isinstance(source, DataSource)
    facts = source.facts
    assert (facts.num_train, facts.num_validation, facts.num_test) == (36, 4, 9)
    assert facts.class_names == (("0", "1", "2") if kind == "wds:" else ("ant", "bee", "cat"))
    assert facts.image_size == (8, 8)
    trained = batches.epoch(source)
    assert [batch[0].shape for batch in trained] == [(8, 3, 8, 8)] * 4
    for split, size in (("validation", 4), ("test", 9)):
        images, labels = (torch.cat(part) for part in zip(*source.evaluation_batches(split, batch_size=4), strict=True))
        assert images.shape == (size, 3, 8, 8)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert int(labels.max()) <= 2
    assert source.unreadable == []


@pytest.mark.parametrize("source", [MemoryImages, LargeImages, StreamedImages, ClutteredDigits])
def test_every_source_keeps_the_contract(source):
    for method in ("train_batches", "evaluation_batches"):
        expected = inspect.signature(getattr(DataSource, method))
        assert inspect.signature(getattr(source, method)) == expected


def test_the_embedded_data_ignore_the_preparation():
    source = open_data("cluttered-digits", Preparation(image_size=(99, 99)), num_workers=3)
    assert source.facts.image_size == (11, 11)


def test_mean_and_standard_deviation_as_given(made):
    settings = Preparation(augmentation=PLAIN, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    facts = open_data(made("folder"), settings).facts
    assert (facts.mean, facts.std) == (settings.mean, settings.std)
    with pytest.raises(ConfigError, match=r"mean and preparation\.std go together"):
        Preparation(mean=(0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digit",
            r"unknown data source 'digit'\. Did you mean 'digits'\? Known: cluttered-digits, digits, mnist1d, ising3d",
        ),
        ("parqet:/nowhere", r"no data at 'parqet:/nowhere': there is no such folder\. Did you mean 'parquet:'\?"),
        ("cifar1:/nowhere", r"Did you mean 'cifar10:'\?"),
        ("torhc/cifar10:/nowhere", r"Did you mean 'torch/'\?"),
        ("/nowhere/at/all", r"no data at '/nowhere/at/all': there is no such folder\. Known: "),
        (
            "torch/cifar11:/nowhere",
            r"torch/cifar11 needs the folder that holds its files.* There is no folder /nowhere\.$",
        ),
        ("tfds/mnist", r"tfds/mnist has no training split to train on; it has: test\."),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(ConfigError, match=message):
        open_data(name)


def test_places_without_data(tmp_path):
    for name in (str(tmp_path), f"parquet:{tmp_path}", f"wds:{tmp_path}", f"torch/cifar10:{tmp_path}"):
        with pytest.raises(DataError):
            open_data(name)


@pytest.mark.parametrize("name", ["hfds/owner/name", "hfids/owner/name"])
def test_a_missing_library_names_its_extra(monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"data by hfi?ds/ needs the extra 'data'"):
        open_data(name)
