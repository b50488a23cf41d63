"""Early stopping, the best weights, signals, and data that end too soon."""

from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import DataError
from metaformer.models.metaformer import MetaFormer
from metaformer.train import loop
from metaformer.train.checkpoint import Checkpoints
from metaformer.train.evaluation import evaluate
from metaformer.train.loop import EpochResult, StepResult, train
from metaformer.train.stopping import InterruptedRunError

ACCURACIES = [40.0, 60.0, 50.0, 60.0, 55.0, 50.0]


@pytest.fixture
def judged(monkeypatch):
    """Validation accuracies as a test wants them, one an epoch; and the weights that were judged."""
    seen = []

    def judge(model, batches, *, fabric=None):
        result = evaluate(model, batches, fabric=fabric)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return replace(result, accuracy=ACCURACIES[len(seen) - 1])

    monkeypatch.setattr(loop, "evaluate", judge)
    return seen


def last_epoch(results):
    return [result for result in results if isinstance(result, EpochResult)][-1].epoch


@pytest.mark.parametrize(("patience", "expected"), [(1, 3), (2, 4), (4, 6), (9, 6), (None, 6)])
def test_early_stopping_waits_for_a_better_accuracy(tiny, stripes, recipe, judged, patience, expected):
    config = replace(recipe, epochs=6, early_stopping_epochs=patience)
    assert last_epoch(train(MetaFormer(tiny), stripes, config, seed=0)) == expected
    assert len(judged) == expected


def test_a_run_that_stopped_early_does_not_go_on(tiny, stripes, recipe, judged, tmp_path):
    config = replace(recipe, epochs=6, early_stopping_epochs=1)
    list(train(MetaFormer(tiny), stripes, config, seed=0, folder=tmp_path))
    (again,) = train(MetaFormer(tiny), stripes, config, seed=0, folder=tmp_path)
    assert (again.epoch, again.resumed, len(judged)) == (3, True, 3)


@pytest.mark.parametrize("has_folder", [True, False])
@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize("final_weights", ["best", "last"])
def test_the_final_weights_are_those_asked_for(
    tiny, stripes, recipe, judged, tmp_path, has_folder, ema_decay, final_weights
):
    model = MetaFormer(tiny)
    config = replace(recipe, epochs=6, final_weights=final_weights, ema_decay=ema_decay)
    list(train(model, stripes, config, seed=0, folder=tmp_path if has_folder else None))
    # The first of equals is the best.
    expected = judged[1 if final_weights == "best" else 5]
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert not torch.equal(judged[1]["head.fc.weight"], judged[5]["head.fc.weight"])


def test_the_best_weights_survive_an_interruption(tiny, stripes, recipe, judged, tmp_path):
    config = replace(recipe, epochs=6, final_weights="best")
    results = train(MetaFormer(tiny), stripes, config, seed=0, folder=tmp_path)
    while not isinstance(result := next(results), EpochResult) or result.epoch < 4:
        pass
    results.close()
    model = MetaFormer(tiny)
    list(train(model, stripes, config, seed=0, folder=tmp_path))
    assert all(torch.equal(value, judged[1][name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("after", "place"), [((0, 3), (0, 3)), ((1, 5), (1, 5)), ((0, 1), (0, 1))], ids=str)
@pytest.mark.parametrize("has_folder", [True, False])
def test_a_signal_stops_after_the_step_and_saves(tiny, stripes, recipe, tmp_path, after, place, has_folder):
    signal_number, num_steps = 0, 0
    model = MetaFormer(tiny)

    def count(module, inputs):
        nonlocal signal_number, num_steps
        num_steps += module.training
        if num_steps == after[0] * 5 + after[1]:
            signal_number = 15

    model.register_forward_pre_hook(count)
    results = train(model, stripes, recipe, seed=0, folder=tmp_path if has_folder else None, stop=lambda: signal_number)
    saved = "; saved: the same command goes on there" if has_folder else ""
    with pytest.raises(
        InterruptedRunError, match=f"^stopped after epoch {place[0] + 1}, step {place[1]}{saved}$"
    ) as caught:
        list(results)
    assert caught.value.signal_number == 15
    if has_folder:
        state = Checkpoints(tmp_path).load()
        assert (state["epoch"], state["step"]) == place


def test_a_signal_during_evaluation_stops_after_the_epoch(tiny, stripes, recipe, tmp_path, monkeypatch):
    signal_number = 0

    def judge(model, batches, *, fabric=None):
        nonlocal signal_number
        signal_number = 2
        return evaluate(model, batches, fabric=fabric)

    monkeypatch.setattr(loop, "evaluate", judge)
    results = train(MetaFormer(tiny), stripes, recipe, seed=0, folder=tmp_path, stop=lambda: signal_number)
    with pytest.raises(InterruptedRunError, match=r"^stopped after epoch 1; saved: the same command goes on there$"):
        list(results)
    assert (Checkpoints(tmp_path).load()["epoch"], Checkpoints(tmp_path).load()["step"]) == (1, 0)


def test_data_that_end_too_soon_are_named(tiny, stripes, recipe, tmp_path):
    stripes.facts = replace(stripes.facts, num_train=60)
    with pytest.raises(DataError, match=r"^stripes promised 60 training images and ended in step 6 of 7 of epoch 1\.$"):
        list(train(MetaFormer(tiny), stripes, recipe, seed=0, folder=tmp_path))


def test_steps_say_where_they_are(tiny, stripes, short):
    steps = [result for result in train(MetaFormer(tiny), stripes, short, seed=0) if isinstance(result, StepResult)]
    assert [(step.epoch, step.step, step.steps_per_epoch) for step in steps] == [
        (epoch, step, 5) for epoch in range(2) for step in range(1, 6)
    ]
    assert all(step.images_per_second > 0 and 0 <= step.waiting_share <= 1 and step.memory_mib > 0 for step in steps)
