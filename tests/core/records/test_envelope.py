import json
from dataclasses import dataclass, replace

import pytest

from metaformer.core.errors import ConfigError, DataError
from metaformer.core.machine import this_machine
from metaformer.core.records import RECORDS, RUN_FILE, Failure, Record, read_record


@dataclass(frozen=True, kw_only=True)
class Taste:
    sweetness: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Smell:
    strength: int


@pytest.fixture(autouse=True)
def _kinds(monkeypatch):
    monkeypatch.setattr(RECORDS, "_entries", {"taste": Taste, "smell": Smell})


@pytest.fixture
def record():
    return Record(
        kind="taste",
        name="plum",
        command="metaformer taste",
        config={"model": {"dims": [8, 16]}, "deep": [{"a": None}]},
        seed=3,
        result=Taste(sweetness=0.5, notes=("ripe",)),
        machine=this_machine(),
        versions={"torch": "2.9"},
        commit=None,
        started="2026-01-01T00:00:00+00:00",
        wall_time_s=12.5,
    )


def test_a_record_comes_back_from_its_folder_and_from_its_file(record, tmp_path):
    target = record.write(tmp_path)
    assert read_record(tmp_path, Taste) == record
    assert read_record(target) == record
    assert read_record(target, Taste).measured.notes == ("ripe",)


def test_a_failed_record_says_which_kind_of_failure_it_was(record, tmp_path):
    failed = replace(record, result=None, failure=Failure(kind="diverged", message="loss is nan in epoch 2"))
    failed.write(tmp_path)
    back = read_record(tmp_path, Taste)
    assert back == failed
    assert back.failure.is_final
    with pytest.raises(DataError, match="'plum' has no result: loss is nan in epoch 2"):
        _ = back.measured


def test_a_record_holds_either_a_result_or_a_failure(record):
    with pytest.raises(ConfigError, match="either"):
        replace(record, result=None)
    with pytest.raises(ConfigError, match="cannot hold a Smell"):
        replace(record, result=Smell(strength=1))


def test_a_number_that_is_not_finite_is_not_written(record, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(record, result=Taste(sweetness=float("nan"))).write(tmp_path)
    assert not (tmp_path / RUN_FILE).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sound"}, "unknown kind of record 'sound'"),
        ({"kind": "smell"}, "it is of kind 'smell', not 'taste'"),
        ({"wall_time": 1}, "has no field 'wall_time'. Did you mean 'wall_time_s'?"),
        ({"wall_time_s": "fast"}, "wall_time_s must be a number; got 'fast'"),
        ({"result": {"sweetness": 1.0, "salt": 2}}, "Taste has no field 'salt'"),
        ({"result": 7}, "Taste must be a JSON object"),
        ({"result": None}, "either a result or a failure"),
        ({"schema": 1}, "its schema is 1; this version reads 2"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_a_data_error_with_the_place(record, tmp_path, change, message):
    target = record.write(tmp_path)
    target.write_text(json.dumps(json.loads(target.read_text()) | change))
    with pytest.raises(DataError) as caught:
        read_record(tmp_path, Taste)
    assert str(target) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b"[" * 200_000,
        b'{"seed": NaN}',
        b'{"seed": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "not text", "list", "null", "deep", "nan", "digits"],
)
def test_what_is_no_json_object_is_a_data_error(tmp_path, content):
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(DataError, match=r"^cannot read "):
        read_record(tmp_path)
