from dataclasses import dataclass

import pytest

from metaformer.core.errors import ConfigError, DataError, StoppedError
from metaformer.core.records import RECORDS, RUN_FILE, failure_of, read_record, recording


@dataclass(frozen=True, kw_only=True)
class Length:
    value_mm: float


@pytest.fixture(autouse=True)
def _kinds(monkeypatch):
    monkeypatch.setattr(RECORDS, "_entries", {"length": Length})


def _measure(out):
    return recording(Length, name="rod", config={"side": 1}, command="metaformer measure", out=out, seed=0)


def test_the_record_carries_what_every_measurement_shares(tmp_path):
    with _measure(tmp_path / "new") as record:
        record.result = Length(value_mm=2.5)
    back = read_record(tmp_path / "new", Length)
    assert back == record.record
    assert (back.measured.value_mm, back.command, back.seed) == (2.5, "metaformer measure", 0)
    assert back.machine.cores > 0
    assert "torch" in back.versions
    assert back.wall_time_s >= 0


def test_a_failure_is_recorded_and_goes_on(tmp_path):
    with pytest.raises(DataError), _measure(tmp_path):
        raise DataError("the rod\nis gone")
    assert read_record(tmp_path).failure.kind == "data"
    assert read_record(tmp_path).failure.message == "the rod is gone"


def test_a_failure_does_not_replace_a_result(tmp_path):
    with _measure(tmp_path) as record:
        record.result = Length(value_mm=2.5)
    with pytest.raises(RuntimeError), _measure(tmp_path):
        raise RuntimeError("no")
    assert read_record(tmp_path, Length).measured.value_mm == 2.5


def test_a_wrong_request_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError), _measure(tmp_path):
        raise ConfigError("side must be at least 1")
    assert not (tmp_path / RUN_FILE).exists()


def test_an_exception_may_name_its_kind():
    class Burst(StoppedError):
        failure_kind = "diverged"

    assert failure_of(Burst("loss is inf")).kind == "diverged"
    assert failure_of(MemoryError()).kind == "out_of_memory"
    assert failure_of(RuntimeError("x")).kind == "error"
