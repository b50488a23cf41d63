"""Which images train, choose and test."""

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.held.hold import open_splits
from metaformer.data.preparation import Preparation
from metaformer.data.sources import find_data, open_data


def split(folder, **settings):
    opened = {name: images() for name, images in find_data(str(folder)).splits.items()}
    return open_splits(opened, Preparation(**settings), name="toy")[0]


def names(part):
    return [sample.name for sample in part]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"train": 60, "val": 9, "test": 12}, (60, 9, 12)),
        ({"train": 60, "test": 12}, (54, 6, 12)),
        ({"training": 60, "validation": 9}, (60, 9, None)),
        ({"train": 60}, (54, 6, None)),
        ({"": 60}, (54, 6, None)),
    ],
    ids=["all three", "no validation", "no test", "only train", "no splits"],
)
def test_a_source_keeps_its_splits_and_lacks_none_for_validation(tmp_path, sets, sizes, expected):
    splits = split(sets.folder(tmp_path, sizes))
    parts = [splits.train, splits.validation, splits.test]
    assert tuple(part and len(part) for part in parts) == expected
    everything = [name for part in parts if part for name in names(part)]
    assert len({*everything}) == len(everything) == sum(sizes.values())
    assert ("held out" in splits.description) == (expected[1] == 6)
    assert ("no test split" in splits.description) == (expected[2] is None)
    assert all(sample.label == ["ant", "bee", "cat"].index(sample.name.split("/")[-2]) for sample in splits.train)


def test_what_is_held_out_is_fixed_and_balanced(tmp_path, sets):
    sets.folder(tmp_path, {"": 90})
    one, other = split(tmp_path, validation_fraction=0.2), split(tmp_path, validation_fraction=0.2)
    assert names(one.validation) == names(other.validation)
    assert one.validation.labels.bincount().tolist() == [6, 6, 6]
    assert one.train.labels.bincount().tolist() == [24, 24, 24]
    # Not simply the first or the last of each class.
    assert names(one.validation) != names(split(tmp_path, validation_fraction=0.8).validation)[:18]


def test_a_subset_is_fixed_and_balanced_and_leaves_validation_as_it_is(tmp_path, sets):
    sets.folder(tmp_path, {"": 90})
    whole, part = split(tmp_path), split(tmp_path, max_train_images=27)
    assert part.train.labels.bincount().tolist() == [9, 9, 9]
    assert {*names(part.train)} < {*names(whole.train)}
    assert names(part.train) == names(split(tmp_path, max_train_images=27).train)
    assert names(part.validation) == names(whole.validation)
    assert "a fixed subset of 27" in part.description
    assert len(split(tmp_path, max_train_images=1000).train) == 81


def test_classes_are_matched_by_name(tmp_path, sets):
    sets.folder(tmp_path, {"train": 30})
    sets.folder(tmp_path / "test", {"": 9})
    for file in (tmp_path / "test" / "ant").iterdir():
        file.unlink()
    (tmp_path / "test" / "ant").rmdir()
    splits = split(tmp_path)
    # Of the two classes there, bee is the first; it is the second of three.
    assert splits.test.labels.bincount().tolist() == [0, 3, 3]
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "cats")
    with pytest.raises(
        DataError, match=r"test has the class 'cats', which the training images lack\. Did you mean 'cat'"
    ):
        split(tmp_path)


def test_splits_that_cannot_be_trained_on(tmp_path, sets):
    sets.folder(tmp_path / "a", {"val": 9, "test": 9})
    with pytest.raises(ConfigError, match=r"/a has no training split to train on; it has: test, validation\."):
        open_data(str(tmp_path / "a"))
    sets.folder(tmp_path / "b", {"": 2})
    with pytest.raises(ConfigError, match=r"validation_fraction 0\.8 leaves none of the 2 images of toy"):
        split(tmp_path / "b", validation_fraction=0.8)


def test_labels_of_parquet_files_are_checked(tmp_path, sets):
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": sets.noise(number), "path": f"{number}.png"} for number in range(4)]
    pq.write_table(arrow.table({"image": rows, "label": [0, 2, 1, None]}), tmp_path / "train.parquet")
    with pytest.raises(
        DataError,
        match=r"train\.parquet, row 3 \(3\.png\) has no label, as 1 of the 4 images of .* Give each one a class",
    ):
        split(tmp_path)
    pq.write_table(arrow.table({"image": rows, "label": [0, 2, 1, 2]}), tmp_path / "train.parquet")
    splits = split(tmp_path, validation_fraction=0.25)
    assert splits.class_names == ("0", "1", "2")
    assert torch.cat([splits.train.labels, splits.validation.labels]).bincount().tolist() == [1, 1, 2]
