"""Labels as people have them."""

import pytest

from metaformer.core.errors import DataError
from metaformer.data.classes import agree_on_classes, read_split

NAN = float("nan")


def split(raw, names=(), where="toy"):
    return read_split(
        raw, class_names=names, order_is_by_name=False, name_of=lambda index: f"image {index}", where=where
    )


def agreed(raw, **settings):
    found = agree_on_classes({"train": split(raw)}, **settings)
    return found.class_names, found.labels["train"].tolist()


@pytest.mark.parametrize(
    ("raw", "names", "labels"),
    [
        (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        ([2, 0, 1], ("0", "1", "2"), [2, 0, 1]),
        ([9, 0, 5], ("0", "5", "9"), [2, 0, 1]),
        (["10", "2", "10"], ("2", "10"), [1, 0, 1]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        ([True, False], ("False", "True"), [1, 0]),
        ([b"cat", b"ant"], ("ant", "cat"), [1, 0]),
    ],
    ids=["words", "numbers", "gaps", "digits", "whole fractions", "truths", "bytes"],
)
def test_words_and_numbers_become_classes(raw, names, labels):
    assert agreed(raw) == (names, labels)


def test_gaps_are_told_and_may_be_kept():
    found = agree_on_classes({"train": split([9, 0, 5])})
    assert "numbers with gaps, from 0 to 9: taken as 3 classes" in str(found.notes[0])
    assert agreed([9, 0, 5], num_classes=10)[1] == [9, 0, 5]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([0, 1, 10**12], r"image 2 has the label 1000000000000; the others are 0 to 1\."),
        ([0, 1, 65535], r"image 2 has the label 65535; the others are 0 to 1\."),
        ([0, -7], r"image 1 has the label -7"),
        ([0, NAN], r"image 1 has no label, as 1 of the 2 images of toy"),
        ([0, None], r"image 1 has no label"),
        ([0, -1], r"image 1 has no label"),
        ([[0, 1], [1]], r"image 0 has a list of labels for a label; expected one class an image"),
        ([0.5, 1], r"image 0 has the fraction 0\.5 for a label"),
        (["cat", 1], r"toy mixes words and numbers as labels, as 'cat' of image 0"),
    ],
    ids=["far", "outlier", "negative", "nan", "none", "minus one", "lists", "fractions", "mixed"],
)
def test_labels_that_are_no_classes_are_one_line(raw, message):
    with pytest.raises(DataError, match=message):
        agreed(raw)


def test_an_unlabelled_split_is_left_out_and_others_must_fit():
    train = split(["cat", "dog"], where="train")
    found = agree_on_classes({"train": train, "test": split([-1, None])})
    assert [*found.labels] == ["train"]
    assert str(found.notes[0]) == "The test split has no labels and is left out (2 images)."
    with pytest.raises(DataError, match=r"holdout has the class 'cats', which the training images lack\. Did you mean"):
        agree_on_classes({"train": train, "test": split(["cats"], where="holdout")})
    with pytest.raises(DataError, match=r"the classes of holdout are numbers and those of train words"):
        agree_on_classes({"train": train, "test": split([0], where="holdout")})
    with pytest.raises(DataError, match=r"image 1 has the label 2; the classes are 0 to 1"):
        split([0, 2], names=("cat", "dog"))


def test_a_number_that_only_another_split_has_is_refused_as_a_word_would_be():
    splits = {"train": split([0, 1]), "test": split([0, 2, 2], where="holdout")}
    with pytest.raises(
        DataError, match=r"holdout has the class '2', which the training images lack\. .*num_classes.*2 im"
    ):
        agree_on_classes(splits)
    assert agree_on_classes(splits, num_classes=3).labels["test"].tolist() == [0, 2, 2]


def test_twenty_thousand_classes_without_images_are_counted_at_once():
    names = tuple(map(str, range(20_000)))
    found = agree_on_classes({"train": split([0, 1], names=names)})
    assert found.notes[0].count == 19_998
