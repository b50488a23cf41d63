import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metaformer.core.configs import from_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import RUN_FILE, History, ModelCost, read_record
from metaformer.models.create import create_model
from metaformer.models.weights import WEIGHTS_FILE, read_weights
from metaformer.train import loop
from metaformer.train.checkpoint import Checkpoints
from metaformer.train.config import Run
from metaformer.train.divergence import DivergedError
from metaformer.train.evaluation import evaluate
from metaformer.train.first_model import fit_to_data
from metaformer.train.loop import EpochResult
from metaformer.train.run import BEST_WEIGHTS_FILE, perform, train
from metaformer.train.run_log import LOG_FILE


@pytest.fixture
def run(tiny, short):
    return Run(name="pooling", model=replace(tiny, num_classes=1000, in_chans=3), data="stripes", train=short, seed=2)


@pytest.fixture
def done(run, stripes, tmp_path):
    cost = ModelCost(params=123, frozen=0, macs=9)
    results = perform(run, stripes, tmp_path, command="metaformer test", cost=cost)
    results = [result for result in results if isinstance(result, EpochResult)]
    return tmp_path, results


def test_it_leaves_a_record_and_weights_and_no_checkpoint(done):
    folder, results = done
    best = {BEST_WEIGHTS_FILE} if read_record(folder).measured.best_epoch < 2 else set()
    assert {path.name for path in folder.iterdir()} == {LOG_FILE, WEIGHTS_FILE, RUN_FILE} | best
    assert [result.epoch for result in results] == [1, 2]


def test_the_record_says_what_was_asked_and_what_came_out(done, run):
    folder, results = done
    record = read_record(folder)
    assert (record.kind, record.name, record.seed, record.command) == ("training", "pooling", 2, "metaformer test")
    assert from_dict(Run, record.config) == run
    trained = record.measured
    assert trained.history == History.of(results[-1].history)
    assert record.failure is None
    assert trained.cost == ModelCost(params=123, frozen=0, macs=9)
    assert trained.validation_accuracy_percent == trained.history.validation_accuracy_percent[-1]
    assert trained.train_time_s == trained.history.seconds[-1]
    assert trained.peak_memory_mib > 0
    assert trained.class_names == ("top", "middle", "bottom")
    assert len(trained.per_class_accuracy_percent) == 3
    assert torch.__version__.startswith(record.versions["torch"])
    assert record.wall_time_s > 0


def test_the_record_comes_back_as_it_was_written(done):
    folder, _ = done
    text = (folder / RUN_FILE).read_text()
    record = read_record(folder)
    record.write(folder / "copy")
    assert (folder / "copy" / RUN_FILE).read_text() == text
    assert json.loads(text)["schema"] == 2


def test_the_saved_weights_give_the_recorded_test_accuracy(done, run, stripes):
    folder, _ = done
    model = create_model(run.model, weights=folder)
    result = evaluate(model, stripes.evaluation_batches("test"))
    record = read_record(folder)
    assert result.accuracy == record.measured.test_accuracy_percent
    assert result.loss == pytest.approx(record.measured.test_loss, rel=1e-6)
    assert result.per_class_accuracy == record.measured.per_class_accuracy_percent
    assert read_weights(folder).class_names == ("top", "middle", "bottom")


def test_the_test_split_is_read_once(done, stripes):
    assert stripes.num_test_reads == 1


def test_the_model_is_fitted_to_the_data(run, stripes):
    config = fit_to_data(run.model, stripes)
    assert (config.num_classes, config.in_chans, config.image_size) == (3, 1, (8, 8))
    assert (config.preprocessing.mean, config.preprocessing.std) == ((0.1,), (0.5,))
    assert config.dims == run.model.dims


def test_an_interrupted_run_ends_with_the_same_numbers(done, run, stripes, tmp_path):
    expected = read_record(tmp_path)
    results = perform(run, stripes, tmp_path / "again", command="metaformer test")
    next(result for result in results if isinstance(result, EpochResult))
    results.close()
    assert Checkpoints(tmp_path / "again").paths()
    assert not (tmp_path / "again" / RUN_FILE).exists()
    torch.manual_seed(5)
    list(perform(run, stripes, tmp_path / "again", command="metaformer test"))
    record = read_record(tmp_path / "again")
    for name in ("test_accuracy_percent", "test_loss", "validation_accuracy_percent", "train_loss"):
        assert getattr(record.measured, name) == getattr(expected.measured, name)
    # Tensor by tensor: safetensors writes its metadata in any order.
    weights, again = load_file(tmp_path / WEIGHTS_FILE), load_file(tmp_path / "again" / WEIGHTS_FILE)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_seeds_differ_and_a_seed_repeats(run, stripes, tmp_path):
    losses = []
    for folder, seed in (("a", 0), ("b", 1), ("c", 0)):
        list(perform(replace(run, seed=seed), stripes, tmp_path / folder, command=""))
        losses.append(read_record(tmp_path / folder).measured.test_loss)
    assert losses[0] == losses[2] != losses[1]


def test_a_run_that_diverges_leaves_no_record(run, stripes, tmp_path):
    wild = replace(run, train=replace(run.train, optimizer="sgd", lr=1e9, warmup_epochs=0.0))
    with pytest.raises(DivergedError):
        list(perform(wild, stripes, tmp_path, command=""))
    assert not (tmp_path / RUN_FILE).exists()


@pytest.mark.parametrize("final_weights", ["best", "last"])
def test_the_best_weights_are_kept_beside_the_last_or_instead(run, stripes, tmp_path, monkeypatch, final_weights):
    plain = loop.evaluate
    accuracies = iter([50.0, 90.0, 70.0, 60.0])

    def judge(model, batches, *, fabric=None):
        return replace(plain(model, batches, fabric=fabric), accuracy=next(accuracies))

    monkeypatch.setattr(loop, "evaluate", judge)
    recipe = replace(run.train, epochs=4, final_weights=final_weights)
    list(perform(replace(run, train=recipe), stripes, tmp_path, command=""))
    record = read_record(tmp_path)
    assert record.measured.best_epoch == 2
    # The figure belongs to the weights that the folder gives.
    assert record.measured.validation_accuracy_percent == (90 if final_weights == "best" else 60)
    assert (tmp_path / BEST_WEIGHTS_FILE).exists() is (final_weights == "last")
    loss = evaluate(create_model(run.model, weights=tmp_path), stripes.evaluation_batches("validation")).loss
    epoch = 2 if final_weights == "best" else 4
    assert loss == pytest.approx(record.measured.history.validation_loss[epoch - 1], rel=1e-5)


def test_a_test_split_that_cannot_be_evaluated_costs_neither_weights_nor_record(run, stripes, tmp_path, caplog):
    def no_labels():
        raise DataError("no labels")

    stripes.test = no_labels
    list(perform(run, stripes, tmp_path, command=""))
    record = read_record(tmp_path)
    assert record.measured.test_accuracy_percent is None
    assert record.measured.validation_accuracy_percent == record.measured.history.validation_accuracy_percent[-1]
    assert (tmp_path / WEIGHTS_FILE).exists()
    assert "the test split cannot be evaluated: no labels" in caplog.text


def test_weights_are_there_before_the_test_begins(run, stripes, tmp_path):
    def fail():
        assert (tmp_path / WEIGHTS_FILE).exists()
        raise RuntimeError("a crash")

    plain, stripes.test = stripes.test, fail
    with pytest.raises(RuntimeError, match="a crash"):
        list(perform(run, stripes, tmp_path, command=""))
    stripes.test = plain
    list(perform(run, stripes, tmp_path, command=""))
    assert read_record(tmp_path).measured.test_accuracy_percent is not None


def test_test_scores_that_are_none_are_divergence(run, stripes, tmp_path):
    plain = stripes.test
    stripes.test = lambda: (plain()[0] * math.nan, plain()[1])
    with pytest.raises(DivergedError, match=r"^the test loss became nan"):
        list(perform(run, stripes, tmp_path, command=""))
    assert not (tmp_path / RUN_FILE).exists()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:1000])])
@pytest.mark.parametrize("final_weights", ["best", "last"])
def test_lost_best_weights_are_said_and_the_record_tells_which_were_kept(
    run, stripes, tmp_path, monkeypatch, caplog, damage, final_weights
):
    plain, accuracies = loop.evaluate, iter([50.0, 90.0, 70.0])

    def judge(model, batches, *, fabric=None):
        return replace(plain(model, batches, fabric=fabric), accuracy=next(accuracies))

    monkeypatch.setattr(loop, "evaluate", judge)
    asked = replace(run, train=replace(run.train, epochs=3, final_weights=final_weights))
    for result in perform(asked, stripes, tmp_path, command=""):
        if isinstance(result, EpochResult) and result.epoch == 3:
            damage(tmp_path / "best.pt")
    record = read_record(tmp_path)
    assert (record.measured.best_epoch, record.measured.kept_epoch) == (2, 3)
    assert record.measured.validation_accuracy_percent == 70
    assert "the weights of the best epoch, 2, are lost" in caplog.text
    loss = evaluate(create_model(run.model, weights=tmp_path), stripes.evaluation_batches("validation")).loss
    assert loss == pytest.approx(record.measured.history.validation_loss[-1], rel=1e-5)


def test_a_folder_that_another_run_writes_is_refused(run, stripes, tmp_path):
    first = perform(run, stripes, tmp_path, command="")
    next(first)
    with pytest.raises(ConfigError, match=r"^another run writes into .* Choose another --out"):
        next(perform(replace(run, seed=1), stripes, tmp_path, command=""))
    list(first)
    assert read_record(tmp_path).seed == run.seed
    # It came too late to see the first one at work.
    with pytest.raises(ConfigError, match=r"holds a finished run with other settings \(seed: 2 there, 1 here\)"):
        next(perform(replace(run, seed=1), stripes, tmp_path, command=""))


def test_a_finished_run_is_not_repeated_wherever_its_data_lie(done, run, stripes):
    folder, _ = done
    assert list(perform(replace(run, data="/elsewhere/stripes"), stripes, folder, command="")) == []
    stripes.facts = replace(stripes.facts, fingerprint="others")
    with pytest.raises(ConfigError, match=r"data: 'stripes' there, '/elsewhere/stripes' here"):
        next(perform(replace(run, data="/elsewhere/stripes"), stripes, folder, command=""))


def test_more_epochs_on_a_finished_run_are_told_how(done, run, stripes):
    folder, _ = done
    longer = replace(run, train=replace(run.train, epochs=5))
    with pytest.raises(ConfigError, match=r"finished \(train.epochs: 2 there, 5 here\).* --weights .* --out .*-more"):
        next(perform(longer, stripes, folder, command=""))


def test_the_public_function_trains_and_returns_the_record(run, stripes, tmp_path):
    seen = []
    record = train(run, out=tmp_path, data=stripes, command="mine", watch=seen.extend)
    assert record == read_record(tmp_path)
    assert (record.command, record.seed) == ("mine", 2)
    assert [result.epoch for result in seen if isinstance(result, EpochResult)] == [1, 2]
    assert train(run, out=tmp_path, data=stripes) == record
