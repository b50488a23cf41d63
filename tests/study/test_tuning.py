"""Learning rates of their own, in real worker processes."""

from dataclasses import replace

import pytest

from metaformer.core.errors import ConfigError
from metaformer.core.records import RUN_FILE, read_record
from metaformer.study.local_processes import LocalProcesses
from metaformer.study.runner import run_study
from metaformer.study.tuning import (
    TUNED,
    TUNING,
    TUNING_SEED,
    TuneConfig,
    _choice,
    tune_study,
    tuned,
    tuning_runs,
)

TWO = LocalProcesses(num_workers=2)


def tune(study, out, **options):
    return list(tune_study(study, TuneConfig(**options), out=out, command="metaformer test", executor=TWO))


def test_the_grid_is_around_the_recipe_with_another_seed_and_fewer_epochs(study):
    recipe = replace(study.train, epochs=10, warmup_epochs=2.0, cooldown_epochs=1.0)
    grid = tuning_runs(replace(study, train=recipe), TuneConfig(factors=(2.0, 0.5), epochs_share=0.5))
    runs = list(grid["identity"].values())
    assert [run.train.lr for run in runs] == [0.0005, 0.002]
    assert {(run.train.epochs, run.train.warmup_epochs, run.seed) for run in runs} == {(5, 1.0, TUNING_SEED)}
    assert {run.train.cooldown_epochs for run in runs} == {0.5}
    assert [run.name for run in runs] == ["identity-lr0.0005", "identity-lr0.002"]
    assert TUNING_SEED not in study.seeds


def test_a_variant_with_a_recipe_of_its_own_is_tuned_around_that(study):
    own = replace(study.train, lr=0.1)
    rows = (study.variants[0], replace(study.variants[1], train=own))
    grid = tuning_runs(replace(study, variants=rows), TuneConfig(factors=(1.0,)))
    assert (grid["pooling"][1.0].train.lr, grid["identity"][1.0].train.lr) == (0.001, 0.1)


def test_a_study_with_the_seed_of_the_tuning_is_refused(study):
    with pytest.raises(ConfigError, match=f"^seeds must leave out {TUNING_SEED}"):
        tuning_runs(replace(study, seeds=(0, TUNING_SEED)), TuneConfig())


@pytest.mark.parametrize("factors", [(), (1.0, 1.0), (0.0, 1.0)], ids=str)
def test_factors_that_cannot_be_are_refused(factors):
    with pytest.raises(ConfigError, match=r"^TuneConfig\.factors must be different numbers above 0"):
        TuneConfig(factors=factors)


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_of_epochs_that_cannot_be_is_refused(share):
    with pytest.raises(ConfigError, match=r"^TuneConfig\.epochs_share must be above 0 and at most 1"):
        TuneConfig(epochs_share=share)


def test_tuning_picks_the_best_rate_on_validation_and_goes_on_where_it_stopped(study, tmp_path):
    out = tmp_path / "tiny"
    factors = (0.01, 8.0)
    first = tune_study(study, TuneConfig(factors=factors), out=out, command="", executor=TWO)
    assert next(event for event in first if event.kind == "finished")
    first.close()
    finished = len(list((out / TUNING).glob(f"*/*/{RUN_FILE}")))
    assert 1 <= finished < 4
    assert not (out / TUNING / RUN_FILE).exists()
    events = tune(study, out, factors=factors)
    assert sum(event.kind == "skipped" for event in events) == finished
    record = read_record(out / TUNING)
    assert (record.kind, record.seed) == ("tuning", TUNING_SEED)
    for row in record.measured.variants:
        low, high = row.tried
        assert (low.lr, high.lr) == (1e-05, 0.008)
        better = high.validation_accuracy_percent > low.validation_accuracy_percent
        assert row.lr == (0.008 if better else 1e-05)
        assert row.at_edge
    best = [row.lr for row in record.measured.variants]
    assert [variant.train.lr for variant in tuned(study, out).variants] == best
    assert all(event.kind == "skipped" for event in tune(study, out, factors=factors))


def test_a_variant_that_cannot_be_trained_keeps_the_recipe(broken_study, tmp_path):
    out = tmp_path / "tiny"
    tune(replace(broken_study, variants=broken_study.variants[2:], base="broken"), out, factors=(1.0, 2.0))
    (row,) = read_record(out / TUNING).measured.variants
    assert (row.at_edge, row.lr) == (False, 0.001)
    assert [one.validation_accuracy_percent for one in row.tried] == [None, None]


def test_a_part_is_tuned_again_and_the_rest_keeps_its_rates(study, tmp_path):
    out = tmp_path / "tiny"
    one = replace(study, train=replace(study.train, epochs=1, warmup_epochs=None))
    tune(one, out, factors=(1.0, 2.0))
    before = {row.name: row for row in read_record(out / TUNING).measured.variants}
    events = list(
        tune_study(one, TuneConfig(factors=(4.0,)), variants=("identity",), out=out, command="again", executor=TWO)
    )
    assert {event.run.name for event in events} == {"identity-lr0.004"}
    record = read_record(out / TUNING)
    pooling, identity = record.measured.variants
    assert pooling == before["pooling"]
    assert (identity.name, [one.lr for one in identity.tried], identity.lr) == ("identity", [0.004], 0.004)
    assert [row.train.lr if row.train else 0.001 for row in tuned(one, out).variants] == [pooling.lr, 0.004]


def test_rates_of_another_recipe_are_not_kept(study, tmp_path):
    out = tmp_path / "tiny"
    one = replace(study, variants=study.variants[:1], train=replace(study.train, epochs=1, warmup_epochs=None))
    tune(one, out, factors=(1.0,))
    other = replace(one, train=replace(one.train, weight_decay=0.3))
    with pytest.raises(
        ConfigError, match=r"holds a tuning with other settings \(train\.weight_decay: 0\.05 there, 0\.3"
    ):
        tune(other, out, factors=(1.0,))


def test_of_equal_accuracies_the_lower_loss_wins(study, tmp_path, monkeypatch):
    outcomes = {0.5: (90.0, -0.4), 1.0: (90.0, -0.3), 2.0: (90.0, -0.5)}
    by_factor = tuning_runs(study, TuneConfig(factors=tuple(outcomes)))["pooling"]
    by_lr = {run.train.lr: outcomes[factor] for factor, run in by_factor.items()}
    monkeypatch.setattr("metaformer.study.tuning._outcome", lambda run, folder: by_lr[run.train.lr])
    choice = _choice(study.variants[0], study, by_factor=by_factor, folder=tmp_path)
    assert (choice.lr, choice.at_edge) == (0.001, False)


def test_a_run_of_other_settings_is_not_taken_over(study, tmp_path):
    one = replace(study, seeds=(0,), variants=study.variants[:1])
    list(run_study(one, out=tmp_path / "one", command=""))
    other = replace(one, train=replace(one.train, lr=0.5))
    events = list(run_study(other, out=tmp_path / "other", command="", adopt_from=tmp_path / "one"))
    assert [event.kind for event in events if event.kind != "epoch"] == ["started", "finished"]


def test_runs_at_the_recipes_rate_are_shared_and_not_repeated(study, tmp_path):
    out = tmp_path / "tiny"
    one = replace(study, seeds=(0,), variants=study.variants[:1])
    list(run_study(one, out=out, command=""))
    tune(one, out, factors=(1.0,))
    events = list(run_study(tuned(one, out), out=out / TUNED, command="", executor=TWO, adopt_from=out))
    assert [event.kind for event in events] == ["skipped"]
    place = "pooling/seed0"
    assert read_record(out / TUNED).kind == "study"
    assert (out / TUNED / place / RUN_FILE).read_bytes() == (out / place / RUN_FILE).read_bytes()
