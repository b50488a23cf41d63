"""Tables as people have them."""

import io
import json

import pytest
from PIL import Image

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data, open_images

arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


def png(number=0):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (9 * number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def table(path, columns, classes=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = arrow.table(columns)
    if classes:
        features = {"label": {"_type": "ClassLabel", "names": classes}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(made, path)


def rows(number=4):
    return [{"bytes": png(place), "path": None} for place in range(number)]


def facts(folder):
    return open_data(str(folder), Preparation(validation_fraction=0.25)).facts


def test_two_configs_in_one_folder_are_not_joined(tmp_path):
    for config in ("clean", "noisy"):
        table(tmp_path / config / "train-00000-of-00001.parquet", {"image": rows(), "label": [0, 1, 0, 1]})
    with pytest.raises(DataError, match=r"holds 2 data sets, as clean/train-.* and noisy/train-.* are not joined"):
        facts(tmp_path)
    assert facts(tmp_path / "clean").num_train == 3


def test_of_several_columns_of_labels_one_is_taken_and_said(tmp_path):
    table(tmp_path / "train.parquet", {"image": rows(), "fine_label": [0, 1, 2, 3], "label": [0, 1, 0, 1]})
    assert facts(tmp_path).class_names == ("0", "1")
    assert "Of the columns label, fine_label of classes 'label' is taken." in map(str, facts(tmp_path).notes)


def test_images_are_plain_bytes_or_paths_beside_the_table(tmp_path):
    table(tmp_path / "a" / "train.parquet", {"image": [png(), png(1)], "label": ["cat", "dog"]})
    assert [sample.image for sample in open_images(str(tmp_path / "a"))] == [png(), png(1)]
    names = [{"bytes": None, "path": "x.png"}, {"bytes": None, "path": "y.png"}]
    table(tmp_path / "b" / "train.parquet", {"image": names, "label": ["cat", "dog"]})
    found = [sample.image for sample in open_images(str(tmp_path / "b"))]
    assert found == [tmp_path / "b" / "x.png", tmp_path / "b" / "y.png"]


def test_a_test_split_whose_labels_are_minus_one_is_left_out(tmp_path):
    for split, labels in (("train", [0, 1, 0, 1]), ("validation", [0, 1, 1, 0]), ("test", [-1] * 4)):
        table(tmp_path / f"{split}-00000-of-00001.parquet", {"image": rows(), "label": labels}, ["cat", "dog"])
    assert (facts(tmp_path).num_validation, facts(tmp_path).num_test) == (4, 0)
    assert "The test split has no labels and is left out (4 images)." in map(str, facts(tmp_path).notes)
    assert [sample.label for sample in open_images(str(tmp_path))] == [0, 1, 1, 0]


def test_images_inside_another_column_are_named(tmp_path):
    table(tmp_path / "train.parquet", {"sample": [{"image": row, "label": 0} for row in rows()]})
    with pytest.raises(
        ConfigError, match=r"has no column of images .* it has: sample\. .*write what 'sample' \(struct"
    ):
        facts(tmp_path)
