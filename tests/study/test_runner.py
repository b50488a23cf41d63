"""Studies from end to end, in real worker processes."""

import json
import multiprocessing
import os
import re
import signal
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metaformer.core.configs import from_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import RUN_FILE, read_record
from metaformer.data.sources import open_data
from metaformer.models.create import create_model
from metaformer.models.weights import WEIGHTS_FILE
from metaformer.report.report import report
from metaformer.report.study.load import load_study
from metaformer.study.config import StudyConfig
from metaformer.study.runner import run_study
from metaformer.train.checkpoint import Checkpoints


def run(study, out, **options):
    return list(run_study(study, out=out, command="metaformer test", **options))


def kinds(events):
    return [(event.kind, event.run.name, event.run.seed) for event in events if event.kind != "epoch"]


def times(out):
    """When each run's record was written."""
    return {path.parent.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.glob(f"*/*/{RUN_FILE}")}


@pytest.fixture
def finished(study, tmp_path):
    """The whole study, done once."""
    out = tmp_path / "tiny"
    return out, run(study, out, num_workers=2)


def test_a_study_leaves_a_record_of_itself_and_of_every_run(study, finished):
    out, _ = finished
    record = read_record(out)
    assert (record.kind, record.name, record.command) == ("study", "tiny", "metaformer test")
    assert from_dict(StudyConfig, record.config) == study
    assert record.wall_time_s > 0
    about = record.measured
    assert [row.name for row in about.variants] == ["pooling", "identity"]
    assert (about.base, about.seeds) == ("pooling", (0, 1))
    assert (about.data.num_train, about.data.num_test, about.data.chance_accuracy_percent) == (997, 500, 10)
    assert set(times(out)) == {"pooling/seed0", "pooling/seed1", "identity/seed0", "identity/seed1"}
    for place in times(out):
        run_record = read_record(out / place)
        assert run_record.failure is None
        assert f"{run_record.name}/seed{run_record.seed}" == place
        assert run_record.measured.test_accuracy_percent > 0
        assert run_record.measured.cost.macs > 0
        assert len(run_record.measured.history.train_loss) == 2
        assert sorted(path.name for path in (out / place).iterdir()) == [WEIGHTS_FILE, RUN_FILE]


def test_the_recorded_costs_are_those_of_the_model(study, finished):
    out, _ = finished
    model = create_model(study.variants[0].model, weights=out / "pooling" / "seed0")
    params = read_record(out / "pooling" / "seed0").measured.cost.params
    assert params == sum(parameter.numel() for parameter in model.parameters())


def test_events_of_a_run_come_in_order_and_runs_start_as_planned(finished):
    _, events = finished
    starts = [(event.run.name, event.run.seed) for event in events if event.kind == "started"]
    assert starts == [("pooling", 0), ("identity", 0), ("pooling", 1), ("identity", 1)]
    by_run = defaultdict(list)
    for event in events:
        by_run[event.run.name, event.run.seed].append(event)
    for of_run in by_run.values():
        assert [event.kind for event in of_run] == ["started", "epoch", "epoch", "finished"]
        assert [event.epoch for event in of_run[1:3]] == [1, 2]
        assert all(0 <= event.validation_accuracy <= 100 and event.images_per_second > 0 for event in of_run[1:3])


def test_a_second_call_runs_nothing_again(study, finished):
    out, _ = finished
    before, wall_time = times(out), read_record(out).wall_time_s
    events = run(study, out)
    assert kinds(events) == [("skipped", name, seed) for seed in (0, 1) for name in ("pooling", "identity")]
    assert [event.epoch for event in events] == [2] * 4
    assert times(out) == before
    assert read_record(out).wall_time_s >= wall_time


def test_a_study_grows_by_seeds_and_variants_and_keeps_what_it_has(study, tmp_path):
    out = tmp_path / "tiny"
    first = run(replace(study, seeds=(1,)), out, variants=("pooling",), num_workers=2)
    assert kinds(first) == [("started", "pooling", 1), ("finished", "pooling", 1)]
    before = times(out)
    second = run(replace(study, seeds=(0, 1)), out, variants=("identity",), num_workers=2)
    assert {event.run.name for event in second} == {"identity"}
    config = from_dict(StudyConfig, read_record(out).config)
    assert config.seeds == (0, 1)
    assert [variant.name for variant in config.variants] == ["pooling", "identity"]
    third = kinds(run(study, out, num_workers=2))
    assert sorted(row for row in third if row[0] == "skipped") == [
        ("skipped", "identity", 0),
        ("skipped", "identity", 1),
        ("skipped", "pooling", 1),
    ]
    assert [row for row in third if row[0] != "skipped"] == [("started", "pooling", 0), ("finished", "pooling", 0)]
    assert times(out).items() >= before.items()


def test_a_run_does_not_depend_on_its_neighbours(study, finished, tmp_path):
    out, _ = finished
    alone = tmp_path / "alone"
    run(replace(study, seeds=(1,)), alone, variants=("identity",), num_workers=2)
    place = "identity/seed1"
    # Tensor by tensor: safetensors writes its metadata in any order.
    here, there = load_file(alone / place / WEIGHTS_FILE), load_file(out / place / WEIGHTS_FILE)
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda study: {"train": replace(study.train, epochs=5)}, "train.epochs: 2 there, 5 here"),
        (lambda study: {"train": replace(study.train, lr=0.5)}, "train.lr: 0.001 there, 0.5 here"),
        (lambda study: {"data": "cluttered-digits"}, "data: 'digits' there, 'cluttered-digits' here"),
        (lambda study: {"name": "other"}, "name: 'tiny' there, 'other' here"),
    ],
    ids=["epochs", "lr", "data", "name"],
)
def test_another_setting_is_refused_with_both_values(study, empty_study, change, difference):
    message = rf"holds a study with other settings \({re.escape(difference)}\)\. Choose another --out, or delete"
    with pytest.raises(ConfigError, match=message):
        run(replace(study, **change(study)), empty_study)


@pytest.fixture
def empty_study(study, tmp_path):
    """The folder of a study that was stopped before its first run."""
    events = run_study(replace(study, seeds=(0,)), out=tmp_path / "tiny", command="")
    next(events)
    events.close()
    return tmp_path / "tiny"


def test_a_variant_whose_model_changed_is_refused_with_the_difference(study, tmp_path):
    out = tmp_path / "tiny"
    run(replace(study, seeds=(0,)), out, variants=("pooling",), num_workers=2)
    wider = replace(study.variants[0], model=replace(study.variants[0].model, dims=(4, 16)))
    changed = replace(study, variants=(wider, study.variants[1]))
    with pytest.raises(
        ConfigError, match=r"seed0 holds a run with other settings \(model\.dims\[1\]: 8 there, 16 here\)"
    ):
        run(changed, out)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(study, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear Sir")
    with pytest.raises(ConfigError, match=r"holds something else than a study\. Choose another --out, or an empty"):
        run(study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_in_place_of_the_folder_is_refused(study, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file is a file\. Choose another --out"):
        run(study, tmp_path / "file")


def test_the_folder_of_one_run_is_no_study(study, tmp_path):
    record = _record_of_a_study(study, tmp_path)
    record.write(tmp_path / "run")
    path = tmp_path / "run" / RUN_FILE
    values = json.loads(path.read_text()) | {"kind": "training", "result": None}
    failure = {"kind": "error", "message": "x"}
    path.write_text(json.dumps(values | {"failure": failure}))
    with pytest.raises(ConfigError, match="holds a record of kind 'training', not a study"):
        run(study, tmp_path / "run")


def test_a_damaged_record_of_the_study_is_refused(study, empty_study):
    (empty_study / RUN_FILE).write_text("{")
    with pytest.raises(DataError, match=r"^cannot read "):
        run(study, empty_study)
    assert (empty_study / RUN_FILE).read_text() == "{"


def _record_of_a_study(study, tmp_path):
    events = run_study(study, out=tmp_path / "other", command="")
    next(events)
    events.close()
    return read_record(tmp_path / "other")


def test_a_folder_that_cannot_be_written_is_refused(study, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"^cannot write into .*file/tiny: Not a directory\.$"):
        run(study, tmp_path / "file" / "tiny")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(study, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match=r"^cannot write into .*: Permission denied\.$"):
        run(study, tmp_path / "tiny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 0}, r"^workers must be at least 1; got 0\.$"),
        ({"variants": ("poling",)}, r"^unknown variant 'poling'\. Did you mean 'pooling'\?"),
    ],
    ids=["workers", "variant"],
)
def test_a_wrong_request_touches_no_folder(study, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run(study, tmp_path / "tiny", **options)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda study: {"data": "digit"}, "unknown data source 'digit'. Did you mean 'digits'?"),
        (
            lambda study: {"train": replace(study.train, optimizer="adamww")},
            "got 'adamww'. Did you mean 'adamw'?",
        ),
    ],
    ids=["data", "optimizer"],
)
def test_a_wrong_name_touches_no_folder(study, tmp_path, change, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        run(replace(study, **change(study)), tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


def test_a_run_that_fails_says_why_and_the_others_complete(broken_study, tmp_path):
    out = tmp_path / "tiny"
    events = run(broken_study, out, num_workers=2)
    (failed,) = [event for event in events if event.kind == "failed"]
    assert failed.run.name == "broken"
    assert failed.failure.kind == "settings"
    assert failed.failure.message.startswith("AttentionConfig.head_dim must divide the channels")
    assert {event.run.name for event in events if event.kind == "finished"} == {"pooling", "identity"}
    record = read_record(out / "broken" / "seed0")
    assert (record.failure, record.result, record.seed) == (failed.failure, None, 0)
    before = times(out)
    again = kinds(run(broken_study, out, num_workers=2))
    assert again == [
        ("skipped", "pooling", 0),
        ("skipped", "identity", 0),
        ("started", "broken", 0),
        ("failed", "broken", 0),
    ]
    assert {place for place, when in times(out).items() if when != before[place]} == {"broken/seed0"}


def test_a_run_that_diverges_fails_with_epoch_and_step(study, tmp_path):
    wild = replace(study.train, optimizer="sgd", lr=1e9, warmup_epochs=0.0)
    events = run(replace(study, train=wild, seeds=(0,)), tmp_path / "tiny", variants=("pooling",))
    assert [event.kind for event in events] == ["started", "failed"]
    assert events[-1].failure.kind == "diverged"
    assert re.match(r"the loss became (nan|inf) in epoch 1, step \d+: ", events[-1].failure.message)
    # The same settings would diverge again, so that is the result.
    again = run(replace(study, train=wild, seeds=(0,)), tmp_path / "tiny", variants=("pooling",))
    assert [(event.kind, event.failure) for event in again] == [("skipped", events[-1].failure)]


def test_a_part_without_the_base_is_a_study_that_a_report_can_read(study, tmp_path):
    out = tmp_path / "tiny"
    events = run(replace(study, seeds=(0,)), out, variants=("identity",), num_workers=1)
    assert {event.run.name for event in events} == {"identity"}
    loaded = load_study(out)
    assert ([row.name for row in loaded.variants], loaded.base) == (["pooling", "identity"], "pooling")
    assert report(out).page.is_file()


def test_a_base_that_is_no_variant_is_refused_before_anything_is_trained(study, tmp_path):
    message = r"^unknown StudyConfig\.base 'poling'\. Did you mean 'pooling'\? Known: pooling, identity\.$"
    with pytest.raises(ConfigError, match=message):
        run(replace(study, base="poling"), tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


def test_a_killed_worker_is_a_failed_run_and_the_next_call_goes_on_from_its_checkpoint(study, tmp_path):
    out = tmp_path / "tiny"
    long = replace(study, train=replace(study.train, epochs=25), seeds=(0,))
    seen, epochs, killed = [], {}, False
    for event in run_study(long, out=out, command="", num_workers=2):
        seen.append(event)
        epochs[event.run.name] = event.epoch
        if not killed and len(epochs) == 2 and min(epochs.values()) == 2:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            killed = True
    (failed,) = [event for event in seen if event.kind == "failed"]
    victim = failed.run.name
    (survivor,) = {"pooling", "identity"} - {victim}
    assert failed.failure.message == "the process ended without a word (exit code -9)"
    assert read_record(out / victim / "seed0").failure == failed.failure
    assert Checkpoints(out / victim / "seed0").paths()
    assert ("finished", survivor, 0) in kinds(seen)

    again = run(long, out, num_workers=2)
    assert kinds(again) == [("skipped", survivor, 0), ("started", victim, 0), ("finished", victim, 0)]
    assert again[2].epoch >= 2
    record = read_record(out / victim / "seed0")
    assert record.failure is None
    assert len(record.measured.history.epoch) == 25


def test_closing_the_iterator_ends_the_workers_and_leaves_finished_work(study, tmp_path):
    out = tmp_path / "tiny"
    run(replace(study, seeds=(0,)), out, variants=("identity",), num_workers=2)
    before = times(out)
    events = run_study(study, out=out, command="", num_workers=2)
    for event in events:
        if event.kind == "epoch":
            break
    assert multiprocessing.active_children()
    started = time.monotonic()
    events.close()
    assert time.monotonic() - started < 5
    assert multiprocessing.active_children() == []
    assert times(out).items() >= before.items()
    assert kinds(run(study, out, num_workers=2))[0] == ("skipped", "identity", 0)
    assert len(times(out)) == 4


def test_data_without_a_test_split_are_refused_before_anything_is_trained(study, tmp_path):
    data = open_data(study.data, study.preparation)
    data.facts = replace(data.facts, num_test=0)
    with pytest.raises(ConfigError, match="has no test split with labels, and a study is judged by one"):
        run(study, tmp_path / "tiny", data=data)
    assert not (tmp_path / "tiny").exists()


def test_a_folder_that_cannot_be_written_is_one_line(study, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x", Path("/proc/x")):
        with pytest.raises((ConfigError, DataError)) as raised:
            run(study, place)
        assert "\n" not in str(raised.value)
