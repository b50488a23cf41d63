"""Labelled images from folders, Parquet files, tar shards and the data sets that timm opens."""

import io
import json
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from metaformer.core.errors import ConfigError, DataError, MissingExtraError
from metaformer.data.image_set import ImageSet
from metaformer.data.sources import open_images

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def picture(colour="red", form="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, form)
    return file.getvalue()


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture())


def labels(images):
    return [sample.label for sample in images]


def test_a_folder_of_classes(tmp_path):
    for name in ("cat/a.png", "ant/b.JPG", "ant/c.webp", "bee/d.tif", "bee/.hidden.png", "bee/notes.txt"):
        put(tmp_path / name)
    images = open_images(str(tmp_path))
    assert isinstance(images, ImageSet)
    assert images.class_names == ("ant", "bee", "cat")
    assert images.num_images == 4
    assert labels(images) == [0, 0, 1, 2]
    assert [Path(sample.name).name for sample in images] == ["b.JPG", "c.webp", "d.tif", "a.png"]


def test_2_comes_before_10(tmp_path):
    for name in ("1", "2", "10"):
        put(tmp_path / name / "a.png")
    assert open_images(str(tmp_path)).class_names == ("1", "2", "10")


@pytest.mark.parametrize(
    ("folders", "asked", "taken"),
    [
        (("train", "val"), None, "val"),
        (("train", "val", "test"), None, "test"),
        (("train", "val"), "validation", "val"),
        (("train",), None, "train"),
        (("train", "val"), "train", "train"),
    ],
    ids=["val", "test", "synonym", "only train", "train"],
)
def test_split_folders_are_told_from_classes(tmp_path, folders, asked, taken):
    for name in folders:
        put(tmp_path / name / "cat" / "a.png")
    assert open_images(str(tmp_path), asked).name == str(tmp_path / taken)


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        ((), None, "holds no images. Expected .*/CLASS/IMAGE"),
        (("a.png",), None, "a.png is in no class folder"),
        (("train/cat/a.png",), "tset", "has no split 'tset'"),
        (("cat/a.png",), "test", "It has no splits: leave --split out"),
    ],
    ids=["empty", "flat", "unknown split", "no splits"],
)
def test_folders_that_cannot_be_evaluated(tmp_path, files, split, message):
    for name in files:
        put(tmp_path / name)
    with pytest.raises((ConfigError, DataError), match=message):
        open_images(str(tmp_path), split)


@pytest.fixture
def parquet(tmp_path):
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["red", "blue"]}}
    for split, colours in {"train": ["red"], "test": ["blue", "red", None]}.items():
        rows = [{"bytes": picture(colour) if colour else None, "path": f"{colour}.png"} for colour in colours]
        table = arrow.table({"img": rows, "label": [int(colour == "blue") for colour in colours]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "data"


@pytest.mark.parametrize("start", ["", "parquet:", "cifar10:"])
def test_parquet_files_in_the_layout_of_hugging_face(parquet, start):
    images = open_images(f"{start}{parquet}")
    assert isinstance(images, ImageSet)
    assert images.class_names == ("red", "blue")
    assert images.num_images == 3
    assert labels(images) == [1, 0, 0]
    assert next(iter(images)).name == "test-00000-of-00001.parquet, row 0 (blue.png)"
    # A row without an image is one that cannot be read, not the end: the file that it names is not there.
    assert list(images)[2].image == parquet / "None.png"
    assert labels(open_images(f"{start}{parquet}", "train")) == [0]


def test_parquet_files_that_hold_no_images_say_what_they_hold(tmp_path):
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(arrow.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"has no column of images .* it has: text"):
        open_images(str(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match=r"cannot read .*a\.parquet as Parquet"):
        open_images(str(tmp_path))


@pytest.mark.skipif(not CIFAR10.exists(), reason=f"no photographs at {CIFAR10}")
def test_real_photographs():
    images = open_images(f"cifar10:{CIFAR10}")
    assert images.class_names == NAMES
    assert images.num_images == 10_000
    assert Counter(labels(images)) == dict.fromkeys(range(10), 1000)
    first = next(iter(images))
    assert Image.open(io.BytesIO(first.image)).size == (32, 32)
    assert NAMES[first.label] in first.name


def shard(path, members):
    with tarfile.open(path, "w") as opened:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            opened.addfile(entry, io.BytesIO(data))


def test_tar_shards(tmp_path):
    pytest.importorskip("webdataset")
    shard(tmp_path / "toy-test-00.tar", {"a.png": picture(), "a.cls": b"1", "b.jpg": picture(), "b.cls": b"0"})
    shard(tmp_path / "toy-test-01.tar", {"c.webp": b"broken", "c.json": b'{"label": 2}', "d.cls": b"0"})
    shard(tmp_path / "toy-train-00.tar", {"e.png": picture(), "e.cls": b"3"})
    images = open_images(f"wds:{tmp_path}")
    assert isinstance(images, ImageSet)
    # The broken one and the one without an image are there, to be named.
    assert [(sample.name, sample.label) for sample in images] == [
        ("toy-test-00.tar: a.png", 1),
        ("toy-test-00.tar: b.jpg", 0),
        ("toy-test-01.tar: c.webp", 2),
        ("toy-test-01.tar: d", 0),
    ]
    assert labels(open_images(str(tmp_path), "train")) == [3]
    shard(tmp_path / "toy-val-00.tar", {"f.png": picture()})
    with pytest.raises(DataError, match=r"validation: none of the 1 images has a label"):
        list(open_images(str(tmp_path), "val"))
    (tmp_path / "toy-val-00.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"cannot read the shard .*toy-val-00.tar"):
        open_images(str(tmp_path), "val")


def test_a_data_set_of_hugging_face_by_timms_factory(parquet, tmp_path):
    pytest.importorskip("datasets")
    # In a new cache nothing is known of the columns, of which that of the images is not called as timm expects.
    images = open_images(f"hfds/{parquet}:{tmp_path / 'cache'}")
    assert isinstance(images, ImageSet)
    assert images.class_names == ("red", "blue")
    first = next(iter(images))
    assert (first.image, first.label) == (picture("blue"), 1)
    assert [sample.image == Path("None.png") for sample in images] == [False, False, True]
    assert labels(open_images(f"hfds/{parquet}:{tmp_path / 'cache'}", "train")) == [0]


def test_a_data_set_of_torchvision_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"torch/cifar10:FOLDER. Nothing is downloaded\. .* is empty\.$"):
        open_images(f"torch/cifar10:{tmp_path}")
    with pytest.raises(ConfigError, match=r"torch/mnist needs the folder that holds its files: torch/mnist:FOLDER\."):
        open_images("torch/mnist")
    put(tmp_path / "a.png")
    with pytest.raises(
        DataError, match=r"does not hold torch/cifar10 as torchvision stores it, or its files are damaged"
    ):
        open_images(f"torch/cifar10:{tmp_path}")
    with pytest.raises(ConfigError, match=r"cannot open torch/cifar11: Unknown torchvision dataset cifar11"):
        open_images(f"torch/cifar11:{tmp_path}")


def test_a_data_set_of_torchvision(tmp_path):
    put(tmp_path / "cat" / "a.png")
    put(tmp_path / "ant" / "b.png")
    images = open_images(f"torch/folder:{tmp_path}")
    assert images.class_names == ("ant", "cat")
    assert labels(images) == [0, 1]


@pytest.mark.parametrize(
    ("module", "data"),
    [("pyarrow.parquet", "parquet:{}"), ("webdataset", "wds:{}"), ("datasets", "hfds/{}"), ("datasets", "hfids/{}")],
)
def test_a_missing_library_names_its_extra(tmp_path, monkeypatch, module, data):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(MissingExtraError, match=r"pip install 'metaformer\[data\]'"):
        open_images(data.format(tmp_path))


def test_a_missing_library_without_an_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ConfigError, match=r"data by tfds/ needs tensorflow_datasets"):
        open_images("tfds/mnist")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digit", r"unknown data source 'digit'. Did you mean 'digits'\?"),
        ("parquet:/nowhere", r"no data at '/nowhere'"),
        (__file__, r"is one file; expected a folder of class folders"),
    ],
)
def test_what_is_no_data_is_one_line(data, message):
    with pytest.raises(ConfigError, match=message):
        open_images(data)
