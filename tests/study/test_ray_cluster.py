"""A real Ray cluster of two nodes on this machine, one of which dies; and, without Ray, what its parts do."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from metaformer.core.errors import ConfigError, MissingExtraError
from metaformer.core.records import Failure, read_record
from metaformer.study.folder import plan, run_folder
from metaformer.study.ray_cluster import RayCluster, _Job, _next_event, _remote_run
from metaformer.study.worker import EXECUTION, failure_recorder

EPOCHS = 20
# Ray leaves sockets and processes behind that pytest's warnings would trip over: it has a process of its own.
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path

from ray.cluster_utils import Cluster

from metaformer.recipes.study_quick import study_quick
from metaformer.study.ray_cluster import RayCluster
from metaformer.study.runner import run_study
from metaformer.study.worker import EXECUTION, failure_recorder
from metaformer.train.config import TrainConfig

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
study = replace(study_quick(), data="digits", train=TrainConfig(epochs=EPOCHS, batch_size=128), seeds=(0, 1))
killed, under_way = False, {}
# Checkpoints after every epoch.
executor = RayCluster(address=cluster.address, execution=replace(EXECUTION, checkpoint_minutes=1e-6))
names = ("pooling", "identity")
for event in run_study(study, out=Path(sys.argv[1]), command="test", variants=names, executor=executor):
    print("event", event.kind, event.run.name, event.run.seed, event.epoch, flush=True)
    if event.kind == "epoch":
        under_way[event.run.name] = event.epoch
    # One run on each node, both in the middle.
    if len(under_way) == 2 and min(under_way.values()) >= 2 and not killed:
        cluster.remove_node(second, allow_graceful=False)
        killed = True
for event in run_study(study, out=Path(sys.argv[1]), command="test", variants=names, executor=executor):
    print("again", event.kind, event.run.name, event.run.seed, flush=True)
cluster.shutdown()
""".replace("EPOCHS", str(EPOCHS))


@pytest.mark.slow
def test_a_study_completes_though_a_node_dies_and_nothing_counts_twice(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'metaformer[ray]'")
    script = tmp_path / "study.py"
    script.write_text(SCRIPT, encoding="utf-8")
    out = tmp_path / "study"
    done = subprocess.run(
        [sys.executable, str(script), str(out)],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    events = re.findall(r"^event (\w+) (\w+) (\d) (\d+)$", done.stdout, re.MULTILINE)
    runs = sorted((name, seed) for name in ("pooling", "identity") for seed in "01")
    for kind in ("started", "finished"):
        assert sorted((name, seed) for what, name, seed, _ in events if what == kind) == runs
    assert not [event for event in events if event[0] == "failed"]
    # A run was lost indeed, and went on from a checkpoint of the node that died.
    (lost,) = [place for place, event in enumerate(events) if event[0] == "lost"]
    again = [int(epoch) for what, *run, epoch in events[lost:] if what == "epoch" and run == list(events[lost][1:3])]
    assert again[0] >= 2
    assert again == list(range(again[0], EPOCHS + 1))
    assert sorted(path.relative_to(out).as_posix() for path in out.glob("*/*/run.json")) == [
        f"{name}/seed{seed}/run.json" for name, seed in runs
    ]
    for name, seed in runs:
        record = read_record(out / name / f"seed{seed}")
        assert (record.failure, record.measured.history.epoch) == (None, tuple(range(1, EPOCHS + 1)))
        assert (out / name / f"seed{seed}" / "model.safetensors").stat().st_size > 0
    again = re.findall(r"^again (\w+) ", done.stdout, re.MULTILINE)
    assert again == ["skipped"] * 4


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"a Ray cluster needs the extra 'ray'"):
        RayCluster(address="local")


def test_too_few_workers_are_refused():
    with pytest.raises(ConfigError, match=r"^workers must be at least 1; got 0\.$"):
        RayCluster(address="local", num_workers=0)


def test_the_address_of_a_client_is_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"got 'ray://head:10001'\. Run the command there with --ray auto\.$"):
        RayCluster(address="ray://head:10001")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no.such.host.invalid:6379"])
def test_an_address_where_nobody_answers_is_named_before_anything_is_written(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    with pytest.raises(
        ConfigError, match=rf"^no Ray cluster answers at '{address}': .* Start one with: ray start --head$"
    ):
        RayCluster(address=address)


class LostError(Exception):
    """What Ray raises for a machine that is gone."""


RAY = SimpleNamespace(get=lambda news: news(), exceptions=SimpleNamespace(RayError=LostError))


def say(job, out, news):
    """What becomes of one word of a run."""

    def get():
        if isinstance(news, Exception):
            raise news
        return dict(news)

    return _next_event(RAY, iter([get]), job, out=out)


@pytest.fixture
def job(study):
    run = plan(study)[0]
    return _Job(run=run, recorder=failure_recorder(run, ""), num_tries=1)


def test_a_lost_run_is_tried_again_and_fails_the_third_time(job, tmp_path):
    event = say(job, tmp_path, LostError("node died\nmore"))
    assert (event.kind, event.failure) == ("lost", Failure(kind="lost_process", message="node died"))
    assert not list(tmp_path.iterdir())
    job.num_tries = 3
    assert say(job, tmp_path, LostError("node died")).kind == "failed"
    assert read_record(run_folder(tmp_path, job.run)).failure.message == "lost 3 times; the last time: node died"


def test_files_that_cannot_be_written_fail_one_run_and_not_the_study(job, tmp_path):
    out = tmp_path / "file"
    out.write_text("x")
    event = say(job, out, {"kind": "finished", "files": {"run.json": b"{}"}})
    assert event.kind == "failed"
    assert "cannot be written" in event.failure.message
    why = Failure(kind="error", message="why")
    assert say(job, out, {"kind": "failed", "failure": why}).failure == why
    assert say(job, out, {"kind": "epoch", "epoch": 1, "saved": {"checkpoint-0001-000000.pt": b"x"}}).kind == "epoch"


def test_a_run_goes_on_from_the_checkpoints_of_its_folder(job, tmp_path, monkeypatch):
    monkeypatch.setattr("metaformer.study.worker.measure_cost", lambda run, data: None)
    execution = replace(EXECUTION, checkpoint_minutes=1e-9)
    folder = run_folder(tmp_path, job.run)
    first = _remote_run(job.run, "", execution, {})
    assert say(job, tmp_path, next(first)).epoch == 1
    first.close()
    saved = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert list(saved) == ["checkpoint-0001-000000.pt"]
    # The first word of a run that goes on tells of what it had done.
    rest = [say(job, tmp_path, news) for news in _remote_run(job.run, "", execution, saved)]
    assert [(event.kind, event.epoch) for event in rest] == [("epoch", 1), ("epoch", 2), ("finished", 0)]
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "run.json"]
