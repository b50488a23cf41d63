"""`metaformer optimize`, as a user runs it."""

import re
import warnings

import pytest
import torch

from metaformer.cli.optimize import optimize
from metaformer.core.errors import ConfigError
from metaformer.core.records import read_record
from metaformer.fast import candidates, trial
from metaformer.fast.candidates import NotHereError


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Trials of its own, and no compilation, which takes a minute."""

    def refuse(_model, _dtype):
        raise NotHereError("left out by the test")

    for name in ("folded, compiled", "original, compiled"):
        monkeypatch.setitem(candidates.CANDIDATES, name, refuse)
    monkeypatch.setattr(trial, "QUIET", 0.0)
    monkeypatch.setattr(trial, "cache_folder", lambda: tmp_path / "trials")
    monkeypatch.setattr(trial, "ROUNDS", 3)


def run(capsys, tmp_path, **options):
    with warnings.catch_warnings():
        # On a busy machine the original may win.
        warnings.simplefilter("ignore", UserWarning)
        assert optimize("poolformer_s12", batch_size=1, image_size=(64, 64), record=tmp_path / "record", **options) == 0
    return capsys.readouterr().out


def test_it_prints_the_table_and_the_choice(capsys, tmp_path):
    text = run(capsys, tmp_path)
    assert text.startswith("poolformer_s12, batch of 1, 3x64x64, fp32, ")
    assert re.search(r"^[* ] original +[\d.]+ +[\d.]+% +1\.00x", text, re.M)
    assert re.search(r"^[* ] folded +[\d.]+ ", text, re.M)
    (chosen,) = re.findall(r"^chosen: (.*)$", text, re.M)
    assert re.search(rf"^\* {re.escape(chosen)} ", text, re.M)
    record = read_record(tmp_path / "record")
    assert record.measured.chosen == chosen
    ways = {way.name: way for way in record.measured.ways}
    assert ways["original"].speedup == 1
    assert "left out by the test" in ways["folded, compiled"].dropped
    expected = "metaformer optimize poolformer_s12 --batch-size 1 --image-size 64 64 --dtype fp32 --again"
    assert record.command == expected
    again = run(capsys, tmp_path)
    assert f"chosen: {chosen} (from an earlier trial; --again repeats it)" in again
    assert read_record(tmp_path / "record").measured.is_cached


def test_bf16(capsys, tmp_path):
    assert re.search(r"^[* ] native, float32 inside", run(capsys, tmp_path, dtype="bf16"), re.M)


@pytest.mark.usefixtures("no_shape_checks")
def test_the_model_is_written(capsys, tmp_path):
    path = tmp_path / "fast.pt2"
    assert f"wrote {path}" in run(capsys, tmp_path, out=path)
    loaded = torch.export.load(path).module()
    assert loaded(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


def test_requests_that_cannot_work(tmp_path):
    with pytest.raises(ConfigError, match="--batch-size must be at least 1; got 0"):
        optimize("poolformer_s12", batch_size=0)
    with pytest.raises(ConfigError, match=r"--out must end in \.pt2"):
        optimize("poolformer_s12", out=tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="Did you mean 'poolformer_s12'"):
        optimize("poolfomer_s12")
