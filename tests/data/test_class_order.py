import json

import pytest

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.class_order import match_classes, read_class_map, read_class_names

MODEL = ("ship", "cat", "dog")


def test_names_decide_and_not_their_order():
    order = match_classes(("cat", "dog", "ship"), MODEL, 3)
    assert order.index == (1, 2, 0)
    assert order.note == "classes matched by name: their orders differ"
    assert match_classes(MODEL, MODEL, 3).note == ""


def test_case_and_hyphens_do_not_hide_a_name():
    assert match_classes(("Sea_Lion", "CAT"), ("cat", "sea lion"), 2).index == (1, 0)


def test_a_part_of_the_models_classes_is_enough():
    order = match_classes(("dog",), MODEL, 3)
    assert order.index == (2,)
    assert "2 of the model's have no images" in order.note


def test_numbers_as_folder_names_are_class_numbers():
    names = tuple(sorted(str(number) for number in range(12)))
    assert names[2] == "10"
    assert match_classes(names, (), 12).index == tuple(int(name) for name in names)


def test_without_names_the_order_is_taken_and_said():
    order = match_classes(("a", "b", "c"), (), 3)
    assert order.index == (0, 1, 2)
    assert "the weights name no classes" in order.note
    assert "--class-map" in order.note
    # A data set that numbers its classes itself leaves nothing to say.
    assert match_classes(("a", "b", "c"), (), 3, order_is_by_name=False).note == ""
    assert match_classes((), MODEL, 3).index == ()


def test_a_class_map_decides_alone():
    assert match_classes(("x", "y"), MODEL, 3, class_map={"y": 0, "x": "dog", "z": 1}).index == (2, 0)


@pytest.mark.parametrize(
    ("data", "model", "num", "options", "message"),
    [
        (("cat", "dig", "ship"), MODEL, 3, {}, r"the model has no class 'dig'; it has 'ship', 'cat', 'dog'. Say which"),
        (("a", "b"), (), 3, {}, r"the data has 2 classes .'a', 'b'. and the model 3, without names"),
        (("a",), (), 3, {"class_map": {"aa": 0}}, r"the class map lacks 'a'. Did you mean 'aa'\?"),
        (("a",), (), 3, {"class_map": {"a": 3}}, r"sends 'a' to 3; the model has classes 0 to 2"),
        (("a",), MODEL, 3, {"class_map": {"a": "dgo"}}, r"to 'dgo', which the model does not have. Did you mean 'dog'"),
        ((), MODEL, 3, {"class_map": {"a": 0}}, r"class numbers and no names"),
    ],
    ids=["conflict", "count", "lacking", "outside", "unknown", "numbers"],
)
def test_what_does_not_match_is_one_sentence(data, model, num, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        match_classes(data, model, num, **options)
    assert "\n" not in str(caught.value)


def test_a_map_may_be_text_or_json(tmp_path):
    (tmp_path / "a.txt").write_text("ship\ncat\ndog\n\n", encoding="utf-8-sig")
    (tmp_path / "a.json").write_text(json.dumps(MODEL))
    (tmp_path / "b.json").write_text('{"katze": "cat", "x": 2}')
    expected = {"ship": 0, "cat": 1, "dog": 2}
    assert read_class_map(tmp_path / "a.txt") == read_class_map(tmp_path / "a.json") == expected
    assert read_class_map(tmp_path / "b.json") == {"katze": "cat", "x": 2}


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("a.json", "[1]"), ("a.json", "{}"), ("a.json", '{"a": true}'), ("a.txt", ""), ("a.txt", "x\nx")],
)
def test_what_is_no_map_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=name):
        read_class_map(tmp_path / name)


def test_names_of_classes_come_from_lists_and_objects(tmp_path):
    for values in (MODEL, {"0": "ship", "2": "dog", "1": "cat"}, {"ship": 0, "dog": 2, "cat": 1}):
        (tmp_path / "names.json").write_text(json.dumps(values))
        assert read_class_names(tmp_path / "names.json", 3) == MODEL
    with pytest.raises(ConfigError, match=r"names 3 classes; the model has 4, numbered from 0"):
        read_class_names(tmp_path / "names.json", 4)
