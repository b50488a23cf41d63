"""The bench, on a small model: who is measured, what is checked, what is written."""

import math

import pytest
import torch

from metaformer.fast import candidates
from metaformer.fast.backends import plain_backend
from metaformer.fast.bench import inference, peers, training
from metaformer.fast.bench.inference import run_contest
from metaformer.fast.bench.peers import PEERS, YARDSTICK, bench_case
from metaformer.fast.bench.record import bench_result, contest_record
from metaformer.fast.bench.scaling import Scaling, fit_exponent, measure_scaling
from metaformer.fast.bench.training import peak_memory_mib, run_training
from metaformer.fast.contest import NotHereError, TurnTimes
from metaformer.fast.stage import folded

NAME = "poolformer_s12"
CHEAP = ("ours, eager", "timm, eager", "timm, channels last")


@pytest.fixture(autouse=True)
def no_compilation(monkeypatch):
    """Compiling takes a minute."""

    def refuse(_model, _dtype):
        raise NotHereError("left out by the test")

    for name in ("folded, compiled", "original, compiled"):
        monkeypatch.setitem(candidates.CANDIDATES, name, refuse)


@pytest.fixture
def no_trial(monkeypatch):
    """Folding without a trial, which takes seconds."""

    def fold(model, _example, dtype):
        return folded(model, plain_backend(dtype, sliced_pooling=False))

    monkeypatch.setattr(peers, "optimize", fold)


@pytest.fixture
def cells():
    """One small contest."""
    result = run_contest(NAME, batch_size=1, image_size=64, peers=CHEAP, rounds=3)
    return result, {cell.peer: cell for cell in result.cells}


def test_all_compute_the_same_and_are_timed(cells):
    result, by_peer = cells
    assert set(by_peer) == {*CHEAP, "ours, optimized"}
    assert (result.batch_size, result.side_px, result.dtype) == (1, 64, "float32")
    for cell in by_peer.values():
        assert cell.skipped is None
        assert cell.difference < 1e-4
        assert len(cell.timing.seconds) == 3
    assert by_peer["ours, optimized"].ratio == 1
    assert {row.name for row in result.trial.rows} == set(candidates.CANDIDATES)
    assert contest_record(result, 1, None).best_opponent.name in ("timm, eager", "timm, channels last")


@pytest.mark.usefixtures("no_trial")
def test_a_wrong_peer_is_not_timed(monkeypatch):
    def slightly_wrong(one):
        call = peers.timm_eager(one)
        return lambda: call() * 1.01

    monkeypatch.setitem(PEERS, "timm, eager", slightly_wrong)
    result = run_contest(NAME, batch_size=1, image_size=64, peers=("timm, eager",), rounds=3)
    cell = result.cells[-1]
    assert cell.timing is None
    assert cell.skipped.startswith("wrong by 1")
    assert contest_record(result, 1, None).best_opponent is None


@pytest.mark.usefixtures("no_trial")
def test_a_peer_that_is_missing_or_breaks_is_skipped_with_the_reason(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda _name: None)

    def broken(_one):
        raise RuntimeError("exploded")

    monkeypatch.setitem(PEERS, "timm, eager", broken)
    result = run_contest(NAME, batch_size=1, image_size=64, peers=("ONNX Runtime", "OpenVINO", "timm, eager"), rounds=3)
    reasons = {cell.peer: cell.skipped for cell in result.cells}
    assert reasons["ONNX Runtime"] == "not installed: pip install onnxruntime onnxscript"
    assert reasons["OpenVINO"] == "not installed: pip install openvino onnxscript"
    assert reasons["timm, eager"] == "failed: exploded"


@pytest.mark.usefixtures("no_trial")
def test_a_model_that_timm_does_not_have():
    result = run_contest("metaformer_id_s12", batch_size=1, image_size=64, peers=("timm, eager",), rounds=3)
    assert result.cells[-1].skipped == "timm has no metaformer_id_s12"


def test_the_scores_of_a_contest_depend_on_the_blocks():
    one = bench_case(NAME, batch_size=1, image_size=64, dtype=torch.float32)
    before = one.model(one.example)
    for parameter in one.model.stages[2].blocks[3].channel_mlp.parameters():
        parameter.zero_()
    assert (one.model(one.example) - before).abs().max() > 0.01 * before.abs().max()


@pytest.mark.usefixtures("no_trial")
def test_the_yardstick_is_another_function_and_no_opponent(monkeypatch):
    monkeypatch.setitem(PEERS, YARDSTICK, lambda one: lambda: torch.zeros(1))
    result = run_contest(NAME, batch_size=1, image_size=64, peers=(YARDSTICK,), rounds=3)
    assert result.cells[-1].timing is not None
    assert contest_record(result, 1, None).best_opponent is None


def test_the_exponent_of_a_power_is_found():
    sides = (128, 256, 512)
    assert fit_exponent(sides, [3.0 * (side * side) ** 1.25 for side in sides]) == pytest.approx(1.25)


@pytest.mark.usefixtures("no_trial")
def test_scaling_is_measured():
    scaling = measure_scaling(NAME, (64, 96), dtype=torch.float32, rounds=3)
    assert scaling.sides_px == (64, 96)
    assert math.isfinite(scaling.exponent)


def test_training_steps_are_timed_beside_timms(monkeypatch):
    monkeypatch.setattr(training, "peak_memory_mib", lambda *_arguments: 1.5)
    who = ("timm, channels last",)
    result = run_training(NAME, batch_size=1, image_size=64, contestants=who, rounds=3)
    assert [cell.peer for cell in result.cells] == ["ours, for_training", *who]
    assert all(cell.timing is not None for cell in result.cells)
    assert result.peak_mib["timm, channels last"] == 1.5


def test_a_contestant_with_wrong_gradients_is_not_timed(monkeypatch):
    def halved(one):
        model = training.CONTESTANTS["ours, eager"](one)
        for parameter in model.stages.parameters():
            parameter.register_hook(torch.zeros_like)
        return model

    monkeypatch.setattr(training, "peak_memory_mib", lambda *_arguments: None)
    monkeypatch.setitem(training.CONTESTANTS, "timm, eager", halved)
    result = run_training(NAME, batch_size=2, image_size=64, contestants=("timm, eager",), rounds=3)
    mine, its = result.cells
    assert mine.difference < 1e-3
    assert its.timing is None
    assert its.skipped.startswith("wrong by ")
    assert result.peak_mib == {}


@pytest.mark.parametrize("who", ["ours, for_training", "timm, eager"])
def test_steps_of_all_contestants_begin_with_the_same_loss(who):
    losses = [training.training_step(one, NAME, 1, 64, torch.float32)() for one in (who, "ours, eager")]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_training_fused_needs_less_memory():
    who = ("ours, for_training, least memory", "ours, for_training", "ours, eager")
    least, mine, its = (peak_memory_mib(one, NAME, 16, 128, torch.float32) for one in who)
    # Weights, gradients and AdamW's moments, 182 MiB, are the same for all of them.
    assert 0 < least < 0.8 * its
    assert least < mine < 0.9 * its


def test_the_record_holds_every_number(cells, tmp_path):
    result, by_peer = cells
    scaling = Scaling(sides_px=(64, 96), timings=(TurnTimes(seconds=(0.1,)), TurnTimes(seconds=(0.2,))), exponent=0.9)
    skipped = inference.Cell(peer="OpenVINO", skipped="not installed")
    result = inference.ContestResult(
        name=NAME, batch_size=1, side_px=64, dtype="float32", cells=(*result.cells, skipped)
    )
    bench = bench_result([result], scaling, macs=10**9, peak_gflops=100.0, rounds=3)
    shown = bench.contest("inference", batch_size=1, side_px=64, dtype="float32")
    assert shown.peer("timm, eager").time_ms == 1e3 * by_peer["timm, eager"].timing.median
    assert shown.peer("timm, eager").ratio_to_ours == by_peer["timm, eager"].ratio
    assert shown.peers[-1].skipped == "not installed"
    assert bench.growth.exponent == scaling.exponent


def test_a_training_contestant_that_fails_does_not_keep_the_others(monkeypatch):
    def broken(_one):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(training, "peak_memory_mib", lambda *_arguments: 1.0)
    monkeypatch.setitem(training.CONTESTANTS, training.OURS, broken)
    result = run_training(NAME, batch_size=1, image_size=64, contestants=("timm, eager",), rounds=3)
    ours, timms = result.cells
    assert ours.skipped == "failed: no such luck"
    assert timms.timing is not None
    assert timms.ratio is None
