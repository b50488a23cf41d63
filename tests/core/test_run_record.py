import dataclasses
import json
import re

import pytest

from metaformer.core.errors import DataError
from metaformer.core.run_record import RUN_FILE, SCHEMA, Metric, RunRecord, read_json, read_run_record


@pytest.fixture
def record():
    return RunRecord(
        kind="train",
        name="pooling",
        command="metaformer train",
        config={"model": {"dims": [8, 16]}, "lr": 0.001, "deep": [{"a": None}]},
        seed=3,
        metrics={"accuracy": Metric(value=91.5, unit="%"), "params": Metric(value=1.0, unit="parameters")},
        history={"loss": [2.3, 1.1]},
        labels={"token_mixer": "pooling", "order": 1},
        machine={"cores": 2, "accelerator": None},
        versions={"torch": "2.9"},
        commit="abc123+",
        started="2026-01-01T00:00:00+00:00",
        wall_time_s=12.5,
    )


def test_a_record_comes_back_from_its_folder_and_from_its_file(record, tmp_path):
    target = record.write(tmp_path)
    assert target == tmp_path / RUN_FILE
    assert read_run_record(tmp_path) == record
    assert read_run_record(target) == record


@pytest.mark.parametrize(
    "changes",
    [{"seed": None, "commit": None}, {"error": "out of memory", "metrics": {}}],
    ids=["nothing known", "failed"],
)
def test_unusual_records_come_back(record, tmp_path, changes):
    changed = dataclasses.replace(record, **changes)
    changed.write(tmp_path)
    assert read_run_record(tmp_path) == changed


def test_the_schema_is_written(record, tmp_path):
    assert json.loads(record.write(tmp_path).read_text())["schema"] == SCHEMA


def test_a_metric_that_is_not_a_number_is_not_written(record, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(record, metrics={"loss": Metric(value=float("nan"), unit="")}).write(tmp_path)
    assert not (tmp_path / RUN_FILE).exists()


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=f"^cannot read {re.escape(str(tmp_path / RUN_FILE))}: .*No such file"):
        read_run_record(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b"null", b"[" * 200_000],
    ids=["empty", "cut", "not text", "list", "null", "deep"],
)
def test_what_is_no_json_object_is_a_data_error(tmp_path, content):
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(DataError, match=r"^cannot read "):
        read_json(tmp_path / RUN_FILE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wall_time": 1}, "has no field 'wall_time'. Did you mean 'wall_time_s'?"),
        ({"wall_time_s": "fast"}, "RunRecord.wall_time_s must be a number; got 'fast'"),
        ({"metrics": {"a": {"value": 1.0}}}, "is missing"),
        ({"seed": 1.5}, "RunRecord.seed must be a whole number; got 1.5"),
    ],
    ids=["unknown field", "wrong type", "metric without a unit", "broken seed"],
)
def test_other_json_is_no_run_record(record, tmp_path, change, message):
    target = record.write(tmp_path)
    target.write_text(json.dumps(json.loads(target.read_text()) | change))
    with pytest.raises(DataError, match=rf"is not a run record: .*{re.escape(message)}"):
        read_run_record(tmp_path)
