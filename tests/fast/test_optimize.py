import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from metaformer.core.errors import ConfigError, ShapeError
from metaformer.fast import candidates, contest, trial
from metaformer.fast.candidates import CANDIDATES
from metaformer.fast.contest import NotHereError, TurnTimes
from metaformer.fast.optimize import optimize, trial_of
from metaformer.fast.save import save_program
from metaformer.fast.verify import fresh_inputs, largest_difference
from metaformer.models.metaformer import MetaFormer


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def other_content(path):
    path.write_text('{"rows": [], "chosen": "folded"}')


def folder(path):
    path.unlink()
    (path / "inside").mkdir(parents=True)


# What can happen to the files of a trial; to the trial itself, or to the hash beside it.
DAMAGES = {
    f"{damage.__name__}{beside}": damage
    for beside in ("", " beside")
    for damage in (cut, other_content, folder, Path.unlink)
}


class Computes(nn.Module):
    """A module around a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.fixture(autouse=True)
def no_compiled_candidate(monkeypatch):
    """Compiling takes a minute; one slow test does it."""

    def refuse(_model, _dtype):
        raise NotHereError("left out by the test")

    for name in ("folded, compiled", "original, compiled"):
        monkeypatch.setitem(CANDIDATES, name, refuse)


@pytest.fixture
def times(monkeypatch):
    """Sets the milliseconds that each candidate seems to take, and notes when a trial is timed."""
    table, timed = {}, []

    def pretend(calls, **_options):
        timed.append(list(calls))
        for call in calls.values():
            call()
        return {name: TurnTimes(seconds=(table.get(name, 10.0) / 1e3,) * 3) for name in calls}

    monkeypatch.setattr(trial, "interleave", pretend)
    monkeypatch.setattr(contest, "interleave", pretend)
    table["timed"] = timed
    return table


@pytest.fixture
def model(small, shake):
    return shake(MetaFormer(small)).eval()


def test_it_returns_a_copy_with_the_same_outputs(model, images, times):
    times["folded"] = 1.0
    copy = optimize(model, images)
    assert copy is not model
    assert trial_of(copy).chosen == "folded"
    with torch.no_grad():
        torch.testing.assert_close(copy(images), model(images), rtol=1e-4, atol=1e-5)
        other = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(copy(other), model(other), rtol=1e-4, atol=1e-5)


def test_every_model_of_the_zoo_has_right_candidates_in_bf16(any_model, images, times):
    # In float32 the tests of folding show it.
    times["folded"] = 1.0
    copy = optimize(any_model, images, dtype=torch.bfloat16)
    rows = {row.name: row for row in trial_of(copy).rows}
    for name in ("folded", "native", "native, float32 inside"):
        reason = rows[name].dropped
        assert reason is None or "C++ compiler" in reason, rows[name]
    assert copy(images).dtype == torch.float32


def test_the_table_names_every_candidate_and_marks_the_choice(model, images, times):
    times["native, float32 inside"] = times["folded"] = 2.5
    text = str(trial_of(optimize(model, images)))
    lines = text.splitlines()
    assert len(lines) == 1 + len(CANDIDATES)
    (chosen,) = [line for line in lines if line.startswith("*")]
    assert chosen.split()[:2] == ["*", "folded"]
    assert "4.00x" in chosen
    assert any("left out by the test" in line for line in lines)


def test_a_wrong_candidate_is_dropped_however_fast(model, images, times, monkeypatch):
    wrong = Computes(lambda x: model(x) * (1 + 1e-3))
    monkeypatch.setitem(CANDIDATES, "folded", lambda _model, _dtype: wrong)
    times["folded"], times["native"] = 0.001, 5.0
    rows = {row.name: row for row in trial_of(optimize(model, images)).rows}
    assert rows["folded"].dropped.startswith("wrong by ")
    assert rows["folded"].median_ms is None


def test_a_candidate_that_is_right_on_the_example_only_is_dropped(model, images, times, monkeypatch):
    remembered = model(images).detach()
    monkeypatch.setitem(CANDIDATES, "folded", lambda _m, _d: Computes(lambda x: remembered))
    times["folded"], times["native"] = 0.001, 5.0
    assert {row.name: row for row in trial_of(optimize(model, images)).rows}["folded"].dropped.startswith("wrong by ")


def test_a_candidate_that_crashes_or_gives_nan_is_dropped(model, images, times, monkeypatch):
    def crash(_model, _dtype):
        raise RuntimeError("kernel\nburnt")

    monkeypatch.setitem(CANDIDATES, "folded", crash)
    monkeypatch.setitem(CANDIDATES, "native", lambda _m, _d: Computes(lambda x: model(x) * float("nan")))
    with pytest.warns(UserWarning, match="returned as it is"):
        result = optimize(model, images)
    rows = {row.name: row for row in trial_of(result).rows}
    assert rows["folded"].dropped == "failed: kernel burnt"
    assert rows["native"].dropped.startswith("wrong by inf")


def test_where_nothing_is_faster_the_model_itself_comes_back_with_one_warning(model, images, times):
    times["original"] = 1.0
    with pytest.warns(UserWarning, match="no other way to run this model is right and faster") as caught:
        assert optimize(model, images) is model
    assert len(caught) == 1
    assert trial_of(model).chosen == "original"
    assert "trial" not in model.state_dict()


def test_a_trial_is_kept_and_its_choice_checked_again(model, images, times, monkeypatch):
    times["folded"] = 1.0
    optimize(model, images)
    copy = optimize(model, images)
    assert len(times["timed"]) == 2
    assert trial_of(copy).cached
    assert trial_of(copy).chosen == "folded"
    # What was right once is wrong now: everything is tried anew.
    monkeypatch.setitem(CANDIDATES, "folded", lambda _m, _d: Computes(lambda x: model(x) + 1))
    times["native"] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        again = optimize(model, images)
    assert len(times["timed"]) == 4
    assert trial_of(again).chosen != "folded"


@pytest.mark.parametrize(
    "change",
    ["batch", "size", "dtype", "config", "again", "threads", "compiler", "instructions", *DAMAGES],
)
def test_another_case_is_tried_anew(model, images, times, change, small, shake, tmp_path, monkeypatch):
    times["folded"] = 1.0
    optimize(model, images)
    threads = torch.get_num_threads()
    try:
        if change == "batch":
            optimize(model, images[:1])
        elif change == "size":
            optimize(model, torch.randn(2, 3, 96, 64))
        elif change == "dtype":
            optimize(model, images, dtype=torch.bfloat16)
        elif change == "config":
            optimize(shake(MetaFormer(replace(small, depths=(1, 1, 2, 1)))), images)
        elif change == "again":
            optimize(model, images, again=True)
        elif change == "threads":
            torch.set_num_threads(threads + 1)
            optimize(model, images)
        elif change == "compiler":
            monkeypatch.setattr(trial, "compiler_version", lambda: "another")
            optimize(model, images)
        elif change == "instructions":
            monkeypatch.setattr(trial, "instruction_sets", lambda: ("sse2",))
            optimize(model, images)
        else:
            for file in (tmp_path / "trials").iterdir():
                if change.endswith("beside") == file.name.endswith("sha256.json"):
                    DAMAGES[change](file)
            optimize(model, images)
    finally:
        torch.set_num_threads(threads)
    assert len(times["timed"]) == 4
    # And kept anew.
    kept = [file for file in (tmp_path / "trials").glob("*.json") if not file.name.endswith("sha256.json")]
    assert change == "again" or trial.is_whole(kept[0])


def test_a_trial_beside_other_work_is_not_kept_and_says_so(model, images, times, tmp_path, monkeypatch):
    times["folded"] = 1.0
    monkeypatch.setattr(trial, "QUIET", 1.1)
    found = trial_of(optimize(model, images))
    if found.core_share is None:
        pytest.skip("this system does not tell how long threads waited for a core")
    assert "the machine was busy: " in str(found)
    assert not (tmp_path / "trials").exists()


def test_where_the_original_wins_in_another_dtype_it_comes_back_in_that_dtype(model, images, times):
    times["original, cast"] = 1.0
    copy = optimize(model, images, dtype=torch.bfloat16)
    assert trial_of(copy).chosen == "original, cast"
    assert copy is not model
    assert {parameter.dtype for parameter in copy.parameters()} == {torch.bfloat16}
    assert copy(images).dtype == torch.float32
    # Where it is fastest in its own, that is what comes back.
    times["original"] = 0.5
    with pytest.warns(UserWarning, match="returned as it is"):
        assert optimize(model, images, dtype=torch.bfloat16, again=True) is model


def test_the_winner_meets_the_runner_up_once_more(model, images, times, monkeypatch):
    times["folded"], times["native"] = 1.0, 1.1
    pretend = trial.interleave

    def other_way_round(calls, **options):
        assert set(calls) == {"folded", "native", "original"}
        times["folded"] = 1.5
        return pretend(calls, **options)

    monkeypatch.setattr(trial, "interleave", other_way_round)
    found = trial_of(optimize(model, images))
    if next(row for row in found.rows if row.name == "native").dropped is None:
        assert found.chosen == "native"


def test_a_trial_without_a_cache_works_and_says_so(model, images, times, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(trial, "cache_folder", lambda: tmp_path / "file")
    times["folded"] = 1.0
    with pytest.warns(UserWarning, match="not kept for the next time"):
        assert trial_of(optimize(model, images)).chosen == "folded"


def test_a_model_in_training_is_compared_in_evaluation_and_stays_in_training(small, images, times):
    model = MetaFormer(replace(small, drop_path=0.5)).train()
    times["folded"] = 1.0
    copy = optimize(model, images)
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in copy.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_requests_that_cannot_work(model, images, times):
    with pytest.raises(ConfigError, match="optimize takes a MetaFormer; got Linear"):
        optimize(nn.Linear(2, 2), images)
    with pytest.raises(ShapeError, match=r"dtype of the model, torch\.float32; got torch\.float64"):
        optimize(model, images.double())
    with pytest.raises(ShapeError, match=r"images as \(B, 3, H, W\); got \(3, 64, 64\)"):
        optimize(model, images[0])
    with pytest.raises(ShapeError, match="images as"):
        optimize(model, images[:0])
    with pytest.raises(ConfigError, match="dtype must be one of float64, float32, float16, bfloat16; got int8"):
        optimize(model, images, dtype=torch.int8)
    times["folded"] = 1.0
    with pytest.raises(ConfigError, match="optimized already"):
        optimize(optimize(model, images), images)
    with pytest.raises(ConfigError, match="has no trial"):
        trial_of(nn.Linear(2, 2))


def test_a_float64_model_has_no_native_candidate(model, images, times):
    times["folded"] = 1.0
    rows = {row.name: row for row in trial_of(optimize(model.double(), images.double())).rows}
    assert "not torch.float64" in rows["native"].dropped
    assert "less than float64" in rows["native, float32 inside"].dropped
    # Folded in float64 too: float32 would leave 1e-7.
    assert rows["folded"].difference < 1e-12


@pytest.mark.parametrize("name", ["folded", "native"])
def test_the_copy_still_offers_what_a_metaformer_does(model, images, times, name):
    times[name] = 1.0
    copy = optimize(model, images)
    if trial_of(copy).chosen != name:
        pytest.skip(f"no {name} model here")
    copy.set_grad_checkpointing()
    copy.reset_classifier(7)
    assert copy(images).shape == (2, 7)
    copy.reset_classifier(0)
    copy.reset_classifier(4)
    assert copy(images).shape == (2, 4)
    with torch.no_grad():
        expected = model.forward_intermediates(images, indices=[1, 2], intermediates_only=True)
        actual = copy.forward_intermediates(images, indices=[1, 2], intermediates_only=True)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
        copy.prune_intermediate_layers([2])
        torch.testing.assert_close(copy.forward_features(images), expected[1], rtol=1e-4, atol=1e-4)


def test_a_compiled_copy_is_called_without_gradients_unless_the_images_ask(monkeypatch):
    seen = []
    monkeypatch.setattr(candidates, "compile_alone", lambda model, _options: model)
    frozen = candidates.Frozen(Computes(lambda x: (seen.append(torch.is_grad_enabled()), 2 * x)[1]))
    x = torch.ones(2)
    frozen(x)
    assert frozen(x.requires_grad_()).requires_grad
    with torch.no_grad():
        frozen(x)
    assert seen == [False, True, False]
    assert frozen.function
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = frozen.no_such_thing


@pytest.mark.usefixtures("no_shape_checks")
def test_the_choice_can_be_saved_and_loaded(model, images, times, tmp_path):
    for name in ("folded", "native"):
        times[name] = 1.0
        copy = optimize(model, images, again=True)
        path = tmp_path / f"{name}.pt2"
        save_program(copy, images, path)
        loaded = torch.export.load(path).module()
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), model(images), rtol=1e-4, atol=1e-5)
        times[name] = 20.0


def test_fresh_inputs_are_like_the_example_and_always_the_same():
    example = 3 * torch.randn(2, 3, 8, 8) + 5
    first, second = fresh_inputs(example), fresh_inputs(example)
    assert first[0] is example
    for mine, its in zip(first[1:], second[1:], strict=True):
        assert torch.equal(mine, its)
        assert abs(mine.mean() - 5) < 1
        assert abs(mine.std() - 3) < 1


def test_the_difference_is_a_share_of_the_largest_score():
    expected = [torch.tensor([[1.0, -4.0]])]
    assert largest_difference(Computes(lambda x: x + 0.04), expected, expected) == pytest.approx(0.01)
    assert largest_difference(Computes(lambda x: x[:, :1]), expected, expected) == float("inf")


@pytest.mark.slow
def test_a_real_trial_with_compilation(small, images, monkeypatch):
    monkeypatch.setitem(CANDIDATES, "folded, compiled", candidates.folded_compiled)
    model = MetaFormer(small).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        copy = optimize(model, images)
    rows = {row.name: row for row in trial_of(copy).rows}
    assert rows["original"].speedup == 1
    assert rows["folded, compiled"].dropped is None
    with torch.no_grad():
        torch.testing.assert_close(copy(images), model(images), rtol=1e-4, atol=1e-5)
