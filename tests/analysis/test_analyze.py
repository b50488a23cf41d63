"""Probes run, kept and continued."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from metaformer.analysis import PROBES, Exhibit, Inputs
from metaformer.analysis.analyze import parse_probes, run_probes
from metaformer.analysis.probe import concerning
from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Measurement
from metaformer.core.records import record_from_json, recording
from metaformer.core.records.analysis import Analysis

CALLS: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Count:
    """Counts steps, and stops once in the middle where it is told to."""

    steps: int = 4
    breaks_at: int = -1

    def measure(self, exhibits, inputs, journal):
        done = journal.kept("done") or 0
        for step in range(done, self.steps):
            if step == self.breaks_at and not done:
                raise KeyboardInterrupt
            CALLS.append(f"step {step}")
            journal.keep("done", step + 1)
            journal.show(step + 1, self.steps)
        return Measurement(name="count", question="How many?", finding=str(self.steps), panels=())


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """Cannot be applied to anything."""

    def measure(self, exhibits, inputs, journal):
        raise ConfigError("there is no attention\nin the model.")


@pytest.fixture(autouse=True)
def own_probes(monkeypatch):
    CALLS.clear()
    monkeypatch.setattr(PROBES, "_entries", {"count": Count, "refuse": Refuse})


EXHIBITS = (Exhibit(name="a", model=nn.Linear(2, 2)),)
INPUTS = Inputs(batches=[(torch.zeros(3, 2), torch.zeros(3))], num_batches=1)


def test_probes_are_named_as_configs():
    assert parse_probes("all") == (Count(), Refuse())
    assert parse_probes("count(steps=2)") == (Count(steps=2),)
    with pytest.raises(ConfigError, match=r"unknown probe 'cuont'. Did you mean 'count'"):
        parse_probes("cuont")


def test_a_finished_probe_is_not_measured_again_unless_settings_differ(tmp_path):
    first = run_probes(EXHIBITS, INPUTS, (Count(),), out=tmp_path, settings={"data": "a"})
    assert run_probes(EXHIBITS, INPUTS, (Count(),), out=tmp_path, settings={"data": "a"}) == first
    assert len(CALLS) == 4
    run_probes(EXHIBITS, INPUTS, (Count(steps=2),), out=tmp_path, settings={"data": "a"})
    run_probes(EXHIBITS, INPUTS, (Count(steps=2),), out=tmp_path, settings={"data": "b"})
    assert len(CALLS) == 8


def test_an_interrupted_probe_goes_on(tmp_path):
    probe = Count(breaks_at=2)
    with pytest.raises(KeyboardInterrupt):
        run_probes(EXHIBITS, INPUTS, (probe,), out=tmp_path)
    seen = []
    run_probes(EXHIBITS, INPUTS, (probe,), out=tmp_path, watch=lambda *word: seen.append(word))
    assert CALLS == ["step 0", "step 1", "step 2", "step 3"]
    assert seen == [("count", 3, 4), ("count", 4, 4)]


def test_what_cannot_be_applied_is_said_or_refused():
    found = run_probes(EXHIBITS, INPUTS, (Count(), Refuse()), skip=True)
    assert [(skipped.probe, skipped.reason) for skipped in found.skipped] == [
        ("refuse", "there is no attention in the model.")
    ]
    assert [measurement.name for measurement in found.measurements] == ["count"]
    assert found.num_images == 3
    with pytest.raises(ConfigError, match="no attention"):
        run_probes(EXHIBITS, INPUTS, (Refuse(),))
    with pytest.raises(ConfigError, match="models need names of their own; got a, a"):
        run_probes(EXHIBITS * 2, INPUTS, ())


@dataclass(frozen=True, kw_only=True)
class OnlyB:
    """Applies to the model b."""

    def measure(self, exhibits, inputs, journal):
        for exhibit in exhibits:
            with concerning(exhibit):
                if exhibit.name != "b":
                    raise ConfigError("no attention.")
        return Measurement(name="only", question="?", finding=exhibits[0].name, panels=())


def test_a_model_that_a_probe_does_not_apply_to_is_left_out_alone(monkeypatch):
    monkeypatch.setattr(PROBES, "_entries", {"only": OnlyB})
    both = (*EXHIBITS, Exhibit(name="b", model=nn.Linear(2, 2)))
    found = run_probes(both, INPUTS, (OnlyB(),), skip=True)
    assert [measurement.finding for measurement in found.measurements] == ["b"]
    assert [skipped.reason for skipped in found.skipped] == ["a: no attention."]


def test_models_are_left_as_they_were():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    run_probes((Exhibit(name="a", model=model),), INPUTS, (Count(),))
    assert all(module.training for module in model.modules())


def test_the_record_is_read_back():
    with recording(Analysis, name="a", config={}, command="metaformer analyze a") as recorder:
        recorder.result = run_probes(EXHIBITS, INPUTS, (Count(),), data="x")
    record = record_from_json(recorder.record.to_json(), Analysis)
    assert record.measured == recorder.result
    assert to_dict(record.measured)["measurements"][0]["finding"] == "4"
