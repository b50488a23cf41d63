import math
from dataclasses import replace

import pytest

from metaformer.core.errors import DataError
from metaformer.train.config import Execution, Run
from metaformer.train.divergence import DivergedError
from metaformer.train.dry_run import dry_run


@pytest.fixture
def run(tiny, short):
    return Run(name="pooling", model=tiny, data="stripes", train=short, seed=2)


def test_it_looks_at_every_split_and_writes_nothing(run, stripes, tmp_path):
    found = dry_run(run, stripes, tmp_path / "new", execution=Execution())
    assert found.steps_per_epoch == 5
    assert found.validation_seconds > 0
    assert stripes.num_test_reads == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_labels_is_told_before_the_training(run, stripes, tmp_path, split):
    def no_labels():
        raise DataError(f"the {split} split has no labels")

    setattr(stripes, split, no_labels)
    with pytest.raises(DataError, match=f"the {split} split has no labels"):
        dry_run(run, stripes, tmp_path, execution=Execution())


@pytest.mark.parametrize("split", ["validation", "test"])
def test_scores_that_are_none_are_divergence(run, stripes, tmp_path, split):
    plain = getattr(stripes, split)
    setattr(stripes, split, lambda: (plain()[0] * math.nan, plain()[1]))
    with pytest.raises(DivergedError, match=f"^the {split} loss became nan"):
        dry_run(run, stripes, tmp_path, execution=Execution())


def test_a_learning_rate_that_breaks_the_weights_is_divergence(run, stripes, tmp_path):
    wild = replace(run, train=replace(run.train, optimizer="sgd", lr=1e38, warmup_epochs=0.0))
    with pytest.raises(DivergedError):
        dry_run(wild, stripes, tmp_path, execution=Execution())
