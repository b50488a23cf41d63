"""A real Ray cluster of two nodes on this machine, one of which dies."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from metaformer.core.errors import ConfigError, MissingExtraError
from metaformer.core.run_record import read_run_record
from metaformer.study.ray_cluster import RayCluster

# Ray leaves sockets and processes behind that pytest's warnings would trip over: it has a process of its own.
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path

from ray.cluster_utils import Cluster

from metaformer.recipes.study_quick import study_quick
from metaformer.study.ray_cluster import RayCluster
from metaformer.study.runner import run_study
from metaformer.train.config import TrainConfig

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
study = replace(study_quick(), data="digits", train=TrainConfig(epochs=4, batch_size=128), seeds=(0, 1))
killed = False
executor = RayCluster(address=cluster.address)
names = ("pooling", "identity")
for event in run_study(study, out=Path(sys.argv[1]), command="test", variants=names, executor=executor):
    print("event", event.kind, event.run.name, event.run.seed, flush=True)
    if event.kind == "epoch" and not killed:
        cluster.remove_node(second, allow_graceful=False)
        killed = True
for event in run_study(study, out=Path(sys.argv[1]), command="test", variants=names, executor=executor):
    print("again", event.kind, event.run.name, event.run.seed, flush=True)
cluster.shutdown()
"""


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
    events = re.findall(r"^event (\w+) (\w+) (\d)$", done.stdout, re.MULTILINE)
    runs = sorted((name, seed) for name in ("pooling", "identity") for seed in "01")
    for kind in ("started", "finished"):
        assert sorted((name, seed) for what, name, seed in events if what == kind) == runs
    assert not [event for event in events if event[0] == "failed"]
    assert sorted(path.relative_to(out).as_posix() for path in out.glob("*/*/run.json")) == [
        f"{name}/seed{seed}/run.json" for name, seed in runs
    ]
    for name, seed in runs:
        record = read_run_record(out / name / f"seed{seed}")
        assert (record.error, len(record.history["epoch"])) == (None, 4)
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
