"""`metaformer bench`, as a user runs it."""

import re

import pytest

from metaformer.cli.bench import bench
from metaformer.core.errors import ConfigError
from metaformer.core.records import read_record
from metaformer.fast import candidates, trial
from metaformer.fast.bench import training
from metaformer.fast.candidates import NotHereError


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Trials of its own, and neither compilation nor processes of their own, which take long."""

    def refuse(_model, _dtype):
        raise NotHereError("left out by the test")

    for name in ("folded, compiled", "original, compiled"):
        monkeypatch.setitem(candidates.CANDIDATES, name, refuse)
    monkeypatch.setattr(trial, "QUIET", 0.0)
    monkeypatch.setattr(trial, "cache_folder", lambda: tmp_path / "trials")
    monkeypatch.setattr(training, "peak_memory_mib", lambda *_arguments: 123.0)
    monkeypatch.setattr(
        training, "CONTESTANTS", {key: training.CONTESTANTS[key] for key in (training.OURS, training.REFERENCE)}
    )


def test_it_prints_and_records(capsys, tmp_path):
    out = tmp_path / "bench"
    options = {"batch_sizes": (1, 2), "image_size": (64, 64), "peers": ("timm, eager", "OpenVINO"), "rounds": 3}
    assert bench("poolformer_s12", **options, scaling=(64, 96), training_batch_size=1, out=out) == 0
    text = capsys.readouterr().out
    for title in (
        "inference, batch of 1, 64 px, fp32",
        "inference, batch of 2",
        "training step, batch of 1, 64 px, fp32",
    ):
        assert title in text
    assert len(re.findall(r"^timm, eager +[\d.]+ +[\d.]+% +[\d.]+", text, re.M)) == 2
    assert re.search(r"^best opponent: timm, eager, [\d.]+ times our time", text, re.M)
    assert re.search(r"^ours, for_training .* 123 *$", text, re.M)
    assert re.search(r"^cost exponent in tokens, 64 to 96 px: -?[\d.]+", text, re.M)
    record = read_record(out)
    assert record.config["batch_sizes"] == [1, 2]
    assert record.command.startswith("metaformer bench poolformer_s12 --batch-sizes 1 2 --image-size 64 --dtypes fp32")
    timm = record.measured.contest("inference", batch_size=2, side_px=64, dtype="float32").peer("timm, eager")
    assert timm.time_ms > 0
    assert 0 < timm.share_of_peak_percent < 120
    step = record.measured.contest("training", batch_size=1, side_px=64, dtype="float32")
    assert step.peer("ours, for_training").peak_memory_mib > 0


def test_requests_that_cannot_work():
    with pytest.raises(ConfigError, match=r"unknown peer 'timm eager'. Did you mean 'timm, eager'"):
        bench(peers=("timm eager",))
    with pytest.raises(ConfigError, match="batch_sizes must be at least 1"):
        bench(batch_sizes=(0,))
    with pytest.raises(ConfigError, match="batch_sizes must name at least one"):
        bench(batch_sizes=())
    with pytest.raises(ConfigError, match="training_batch_size must be at least 0"):
        bench(training_batch_size=-1)
    with pytest.raises(ConfigError, match="scaling needs at least two sizes"):
        bench(scaling=(128,))
    with pytest.raises(ConfigError, match="rounds must be at least 3"):
        bench(rounds=1)
    with pytest.raises(ConfigError, match="Did you mean 'poolformer_s12'"):
        bench("poolfomer_s12")
