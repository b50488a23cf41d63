import json
import os
import stat

import pytest

from metaformer.core.atomic_write import atomic_path, write_json, write_text


def test_text_is_written_as_utf8(tmp_path):
    write_text(tmp_path / "a.txt", "na\u00efve\n")
    assert (tmp_path / "a.txt").read_bytes() == "na\u00efve\n".encode()


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "x" / "y" / "a.txt", "1")
    assert (tmp_path / "x" / "y" / "a.txt").read_text() == "1"


def test_an_existing_file_is_replaced(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old and long")
    write_text(target, "new")
    assert target.read_text() == "new"


def test_nothing_is_seen_before_the_end(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path, failure):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def write():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_finished_write_leaves_no_temporary_file(tmp_path):
    write_text(tmp_path / "a.txt", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_file_lies_beside_its_target(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert temporary.parent == tmp_path


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_the_mode_is_that_of_an_ordinary_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "a.txt", "1")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.txt")]
    assert modes[0] == modes[1]


def test_json_comes_back(tmp_path):
    values = {"a": [1, 2.5, None, True], "b": {"c": "d"}}
    write_json(tmp_path / "a.json", values)
    assert json.loads((tmp_path / "a.json").read_text()) == values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}], ids=["nan", "inf", "set"])
def test_what_json_cannot_hold_is_refused_and_leaves_nothing(tmp_path, value):
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"value": value})
    assert list(tmp_path.iterdir()) == []
