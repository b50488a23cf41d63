"""CIFAR-10 in the files of its authors."""

import pickle
import tarfile

import numpy as np
import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data, open_images

NAMES = [f"class {number}" for number in range(10)]
FOLDER = "cifar-10-batches-py"


def write(folder, content):
    folder.mkdir(exist_ok=True)
    for name, value in content.items():
        # As Python 2 wrote them.
        (folder / name).write_bytes(pickle.dumps(value, protocol=2))


@pytest.fixture
def cifar10(tmp_path):
    random = np.random.default_rng(0)
    content = {
        name: {
            "data": random.integers(0, 256, (20, 3072), dtype=np.uint8),
            "labels": [place % 10 for place in range(20)],
            "batch_label": name,
        }
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    }
    content["batches.meta"] = {"label_names": NAMES, "num_vis": 3072}
    write(tmp_path / FOLDER, content)
    return tmp_path


def test_the_batches_of_torchvision(cifar10):
    rows = pickle.loads((cifar10 / FOLDER / "test_batch").read_bytes())["data"]
    for data in (f"cifar10:{cifar10}", f"cifar10:{cifar10 / FOLDER}"):
        images = open_images(data)
        assert images.class_names == tuple(NAMES)
        assert images.num_images == 20
        assert [sample.label for sample in images] == [*range(10)] * 2
        planes = np.asarray(list(images)[7].image).transpose(2, 0, 1).reshape(-1)
        assert np.array_equal(planes, rows[7])
    train = open_images(f"cifar10:{cifar10}", "train")
    assert train.num_images == 100
    first = pickle.loads((cifar10 / FOLDER / "data_batch_5").read_bytes())["data"][19]
    assert np.array_equal(np.asarray(list(train)[99].image).transpose(2, 0, 1).reshape(-1), first)
    with pytest.raises(ConfigError, match="has no split 'validation'"):
        open_images(f"cifar10:{cifar10}", "validation")


@pytest.mark.parametrize("direct", [False, True], ids=["folder", "file"])
def test_the_archive_is_read_where_it_is(cifar10, tmp_path, direct, batches):
    settings = Preparation(augmentation=AugmentationConfig(crop="shift", color_jitter=0.0))
    unpacked = open_data(f"cifar10:{cifar10}", settings)
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "cifar-10-python.tar.gz", "w:gz") as opened:
        opened.add(cifar10 / FOLDER, FOLDER)
    source = open_data(f"cifar10:{packed / 'cifar-10-python.tar.gz' if direct else packed}", settings)
    assert [path.name for path in packed.iterdir()] == ["cifar-10-python.tar.gz"]
    assert source.facts.title == "CIFAR-10"
    assert (source.facts.num_train, source.facts.num_validation, source.facts.num_test) == (90, 10, 20)
    assert batches.same(batches.epoch(source), batches.epoch(unpacked))


def test_a_pickle_that_would_call_something_is_refused(cifar10):
    write(cifar10 / FOLDER, {"test_batch": print})
    with pytest.raises(DataError, match=r"cannot read CIFAR-10 in .*: it wants to call \S*\.print, which data have no"):
        open_images(f"cifar10:{cifar10}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, "does not hold CIFAR-10 as torchvision stores it: 'labels'"),
        ({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}, "does not hold CIFAR-10 as torchvision stores it"),
        ([1, 2], "does not hold CIFAR-10 as torchvision stores it"),
    ],
    ids=["no labels", "another shape", "no batch"],
)
def test_damaged_batches_are_one_line(cifar10, content, message):
    write(cifar10 / FOLDER, {"test_batch": content})
    with pytest.raises(DataError, match=message):
        open_images(f"cifar10:{cifar10}")
    (cifar10 / FOLDER / "test_batch").unlink()
    with pytest.raises(DataError, match=r"cannot read CIFAR-10 in .*No such file"):
        open_images(f"cifar10:{cifar10}")


def test_a_data_set_of_torchvision_has_a_test_split(cifar10, monkeypatch):
    from torchvision.datasets import CIFAR10

    # The sums are those of the real files.
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    meta = {"filename": "batches.meta", "key": "label_names", "md5": None}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    source = open_data(f"torch/cifar10:{cifar10}", Preparation())
    assert (source.facts.num_train, source.facts.num_validation, source.facts.num_test) == (90, 10, 20)
    assert source.facts.class_names == tuple(NAMES)
    own = open_data(f"cifar10:{cifar10}", Preparation())
    one, other = (torch.cat([batch[0] for batch in data.evaluation_batches("test")]) for data in (source, own))
    assert torch.equal(one, other)
