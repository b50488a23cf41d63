"""Folders as people have them: with junk, in splits, deep, without labels, round in circles."""

import os

import pytest
from PIL import Image

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data, open_images


def put(root, *names, number=4):
    for name in names:
        for place in range(number):
            path = root / name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (9 * place, 0, 0)).save(path)


def facts(root, **settings):
    return open_data(str(root), Preparation(validation_fraction=0.25, **settings)).facts


def said(root):
    return " ".join(map(str, facts(root).notes))


@pytest.mark.parametrize("junk", [".ipynb_checkpoints", "__MACOSX", "@eaDir"])
def test_junk_is_no_class_and_is_counted(tmp_path, junk):
    put(tmp_path, "cat", "dog", junk, f"cat/{junk}")
    (tmp_path / "cat" / "._0.png").write_bytes(b"x")
    (tmp_path / "dog" / "a.heic").write_bytes(b"x")
    assert facts(tmp_path).class_names == ("cat", "dog")
    assert facts(tmp_path).num_train + facts(tmp_path).num_validation == 8
    assert "Left out: 3 hidden or system files or folders" in said(tmp_path)
    assert "1 file with suffixes not read here: .heic 1" in said(tmp_path)


def test_the_class_is_the_first_folder_below_the_split(tmp_path):
    put(tmp_path, "train/n01/images", "train/n02/images/more", "val/images", "test/images", number=4)
    source = facts(tmp_path)
    assert source.class_names == ("n01", "n02")
    assert (source.num_validation, source.num_test) == (2, 0)
    assert "The validation split has no labels and is left out (4 images)" in said(tmp_path)
    lines = [f"{place}.png\tn0{1 + place % 2}\t0\t0\t1\t1" for place in range(4)]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines))
    assert (facts(tmp_path).num_train, facts(tmp_path).num_validation) == (8, 4)
    assert "are those of its annotations.txt" in said(tmp_path)
    assert [sample.label for sample in open_images(str(tmp_path))] == [0, 1, 0, 1]


def test_an_unlabelled_test_split_is_left_out_and_validation_evaluated(tmp_path):
    put(tmp_path, "train/cat", "train/dog", "val/cat", "val/dog", "test")
    assert (facts(tmp_path).num_validation, facts(tmp_path).num_test) == (8, 0)
    images = open_images(str(tmp_path))
    assert (images.name, images.num_images) == (str(tmp_path / "val"), 8)
    assert "The test split has no labels" in str(images.notes[0])
    with pytest.raises(DataError, match=r"none of the 4 images has a label. Choose another --split"):
        open_images(str(tmp_path), "test")


@pytest.mark.parametrize(
    "names", [("Train", "Validation", "Test"), ("training", "valid", "TEST"), ("train", "dev", "testing")]
)
@pytest.mark.parametrize("inside", ["", "archive/"], ids=["", "one folder down"])
def test_splits_by_any_name_also_beside_other_folders(tmp_path, names, inside):
    put(tmp_path, *(f"{inside}{name}/{kind}" for name in names for kind in ("cat", "dog")))
    (tmp_path / inside / "annotations").mkdir()
    source = facts(tmp_path)
    assert (source.num_train, source.num_validation, source.num_test) == (8, 8, 8)
    assert "are splits; left out beside them: annotations (0 images)" in said(tmp_path)


def test_two_readings_are_refused_or_told(tmp_path):
    put(tmp_path / "a", "train/cat", "train/dog", "bus")
    with pytest.raises(DataError, match=r"can be read in two ways: train as a split .*, or as a class beside bus"):
        facts(tmp_path / "a")
    put(tmp_path / "b", "train", "bus")
    assert facts(tmp_path / "b").class_names == ("bus", "train")
    assert "train are classes, as are bus" in said(tmp_path / "b")
    put(tmp_path / "c", "val/cat", "valid/cat", "train/cat")
    with pytest.raises(DataError, match=r"two parts that both are for validation: val and valid"):
        facts(tmp_path / "c")
    put(tmp_path / "d", "train/cat", "train/dog", "test/cat", "test/cow")
    with pytest.raises(DataError, match=r"the class 'cow', which the training images lack.*4 images of 1 such class"):
        facts(tmp_path / "d")


def test_one_class_empty_classes_and_strays(tmp_path):
    put(tmp_path, "cat")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match=r"has one class only \('cat', 4 images\)"):
        facts(tmp_path)
    put(tmp_path, "cow")
    put(tmp_path, ".", number=1)
    assert facts(tmp_path).class_names == ("cat", "cow")
    assert "1 folder without an image that can be read: dog" in said(tmp_path)
    assert "Left out: 1 image in no class folder" in said(tmp_path)


def test_links_are_followed_and_end(tmp_path):
    put(tmp_path / "elsewhere", "dog")
    put(tmp_path / "data", "cat")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (tmp_path / "data" / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "round").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "cat" / "self").symlink_to("self")
    os.mkfifo(tmp_path / "data" / "cat" / "pipe")
    assert facts(tmp_path / "data").class_names == ("cat", "dog")
    assert facts(tmp_path / "data").num_train + facts(tmp_path / "data").num_validation == 8
    assert "2 links that lead back to where they lie" in said(tmp_path / "data")


def test_the_fingerprint_goes_with_the_content(tmp_path):
    put(tmp_path / "a", "cat", "dog")
    put(tmp_path / "b", "cat", "dog")
    assert facts(tmp_path / "a").fingerprint == facts(tmp_path / "b").fingerprint != ""
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "b" / "cat" / "0.png")
    assert facts(tmp_path / "a").fingerprint != facts(tmp_path / "b").fingerprint


def test_the_only_folder_is_no_class_and_that_is_said(tmp_path):
    put(tmp_path, "cat/day1", "cat/day2")
    assert facts(tmp_path).class_names == ("day1", "day2")
    assert "holds the folder cat only, which is not taken as a class: its 2 folders are the classes (day1, day2)" in (
        said(tmp_path)
    )
    put(tmp_path, "dog/day1")
    assert facts(tmp_path).class_names == ("cat", "dog")


def test_capital_suffixes_are_read_and_others_counted(tmp_path):
    put(tmp_path, "cat", "dog")
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "0.PNG")
    for name in ("a.heic", "b.svg", "c.npy", "d.NPY"):
        (tmp_path / "dog" / name).write_bytes(b"x")
    assert facts(tmp_path).num_train + facts(tmp_path).num_validation == 8
    assert "4 files with suffixes not read here: .npy 2, .heic 1, .svg 1" in said(tmp_path)


def test_a_folder_that_may_not_be_listed_is_one_line(tmp_path, monkeypatch):
    put(tmp_path, "cat", "dog")
    scan = os.scandir

    def refuse(path):
        # Root may list everything, so that permissions alone would show nothing.
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot list .*dog: Permission denied\. Make it readable, or move it away\."):
        facts(tmp_path)


@pytest.mark.slow
def test_a_million_images_cost_less_than_300_mib(tmp_path, run_python):
    code = f"""
import os, resource
from pathlib import Path
root = Path({str(tmp_path)!r})
for kind in range(100):
    folder = root / f"class{{kind:03}}"
    folder.mkdir()
    for place in range(10_000):
        os.symlink("nowhere", folder / f"picture_{{place:06}}.jpg")
from metaformer.data.sources import find_data
from metaformer.data.found import labels_of
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = find_data(str(root)).splits["train"]()
labels = labels_of(images)
assert images.num_images == len(labels.codes) == 1_000_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    assert float(run_python(code)) < 300


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no data at"):
        open_data(str(tmp_path / "nowhere"))
