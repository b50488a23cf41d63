"""Measurements in rounds, which go on where they were cut off."""

import json

import pytest
import torch
from torch import nn

from metaformer.analysis.scaling import Subject
from metaformer.block.token_mixers import AttentionConfig, PoolingConfig, SpatialMLPConfig
from metaformer.core.errors import ConfigError
from metaformer.core.records import read_record
from metaformer.data.sources import open_data
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.study.rounds import Share, rounds
from metaformer.study.scaling_record import ScalingConfig, measure_scaling, mixer_subject, model_subject
from metaformer.study.speed_record import SpeedConfig, measure_speed

QUICK = ScalingConfig(dim=16, sides=(2, 3, 4), num_rounds=2, seconds=0.0)


def subjects():
    return [
        mixer_subject("pooling", PoolingConfig(), QUICK),
        mixer_subject("spatial_mlp", SpatialMLPConfig(), QUICK),
        model_subject("pooling", TINY_POOLFORMER, ScalingConfig(sides=(8,), num_rounds=1)),
    ]


def measure(out, config=QUICK, **settings):
    return list(measure_scaling(subjects()[:2], config, out=out, command="test", settings=settings))


def test_a_record_holds_every_size_of_every_subject(tmp_path):
    assert measure(tmp_path) == [(1, 2), (2, 2)]
    record = read_record(tmp_path / "scaling")
    assert (record.kind, record.measured.num_threads) == ("scaling", 1)
    pooling, mlp = record.measured.series
    assert [point.num_tokens for point in pooling.points] == [4, 9, 16]
    assert [point.params for point in mlp.points] == [16, 81, 256]
    assert mlp.params_exponent == pytest.approx(2.0)
    assert pooling.params_exponent is None
    assert all(len(point.times_ms) == 2 for one in (pooling, mlp) for point in one.points)
    assert [path.name for path in (tmp_path / "scaling").iterdir()] == ["run.json"]
    assert 0 < record.measured.cpu_share <= 1


def test_what_is_measured_is_not_measured_again_unless_settings_differ(tmp_path):
    measure(tmp_path)
    target = tmp_path / "scaling" / "run.json"
    before = target.stat().st_mtime_ns
    assert measure(tmp_path) == [(2, 2)]
    assert target.stat().st_mtime_ns == before
    measure(tmp_path, scale="other")
    assert target.stat().st_mtime_ns != before


def test_a_measurement_that_was_cut_off_goes_on(tmp_path):
    half = measure_scaling(subjects()[:2], QUICK, out=tmp_path, command="", settings={})
    next(half)
    half.close()
    path = tmp_path / "scaling" / "round-0.json"
    stored = json.loads(path.read_text())
    for row in stored["result"]:
        row["ms"] = 123.0
    path.write_text(json.dumps(stored))
    measure(tmp_path)
    points = read_record(tmp_path / "scaling").measured.series[0].points
    assert all(point.times_ms[0] == 123.0 and point.times_ms[1] < 123.0 for point in points)


def test_a_round_that_is_broken_or_of_other_settings_is_measured_again(tmp_path):
    calls = []
    for _ in range(2):
        list(rounds(tmp_path, {"a": 1}, 2, lambda: calls.append(1) or len(calls)))
    assert len(calls) == 2
    (tmp_path / "round-1.json").write_text("{")
    assert list(rounds(tmp_path, {"a": 1}, 2, lambda: 7)) == [(0, 1), (1, 7)]
    assert list(rounds(tmp_path, {"a": 2}, 1, lambda: 9)) == [(0, 9)]


def test_rounds_run_on_one_thread_and_give_the_threads_back(tmp_path):
    torch.set_num_threads(2)
    try:
        assert list(rounds(tmp_path, {}, 1, torch.get_num_threads)) == [(0, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_whole_model_is_built_for_each_size():
    subject = subjects()[2]
    for side in (8, 16):
        model, x = subject.build(side)
        assert model.config.grids[0] == (side, side)
        assert model(x).shape == (1, 10)


def test_the_share_of_the_time_that_was_the_measurements_own(monkeypatch):
    # A GPU beside it changes nothing: what is timed runs on the processor.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    share = Share()
    assert share.value is None
    share.add(2.0, 1.0)
    share.add(2.0, 2.0)
    assert share.value == 0.75
    # Clocks differ a little.
    share.add(0.1, 99.0)
    assert share.value == 1.0


@pytest.mark.parametrize("sides", [(), (4, 2), (1, 2), (2, 2)], ids=str)
def test_sizes_that_cannot_be_are_refused(sides):
    with pytest.raises(ConfigError, match=r"^ScalingConfig\.sides must rise from 2 tokens on"):
        ScalingConfig(sides=sides)


def test_a_subject_says_what_it_builds():
    assert isinstance(subjects()[0], Subject)
    module, x = mixer_subject("attention", AttentionConfig(head_dim=8), QUICK).build(3)
    assert isinstance(module, nn.Module)
    assert x.shape == (1, 16, 3, 3)


def test_speed_of_every_variant_that_can_be_built(broken_study, tmp_path):
    data = open_data("digits")
    config = SpeedConfig(num_rounds=2, seconds=0.0)
    done = list(measure_speed(broken_study, data, config, out=tmp_path, command="test"))
    assert done == [(1, 2), (2, 2)]
    record = read_record(tmp_path / "speed")
    assert record.kind == "speed"
    assert [row.name for row in record.measured.variants] == ["pooling", "identity"]
    for row in record.measured.variants:
        assert 0 < row.latency_ms.low <= row.latency_ms.median <= row.latency_ms.high
        assert row.memory_mib > 0
    assert list(measure_speed(broken_study, data, config, out=tmp_path, command="test")) == [(2, 2)]
