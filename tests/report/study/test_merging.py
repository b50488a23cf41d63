import json
import shutil
from dataclasses import replace

import pytest
from scipy import stats

from metaformer.core.errors import DataError
from metaformer.core.records import Recorder, Scaling, Speed, Spread, VariantSpeed
from metaformer.report.claims.claims import UNTESTED, judge_claims
from metaformer.report.report import report
from metaformer.report.study.load import load_study
from metaformer.report.study.merging import changes, merge
from metaformer.report.study.summary import summarize


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_runs(folder, change, pattern="*/seed*/run.json"):
    for path in folder.glob(pattern):
        edit(path, change)


@pytest.fixture
def pair(study_folder, tmp_path):
    """A study and its copy."""
    other = tmp_path / "other"
    shutil.copytree(study_folder, other)
    return study_folder, other


def merged(pair):
    return merge(*map(load_study, pair)).study


def names(study):
    return [variant.name for variant in study.variants]


def test_the_same_runs_count_once(pair):
    both, alone = merged(pair), load_study(pair[0])
    assert names(both) == names(alone)
    assert both.runs == alone.runs
    assert both.unreadable == {}
    assert changes(merge(*map(load_study, pair))) == []


def test_other_seeds_of_the_same_settings_join(pair):
    def later(run):
        run["seed"] += 3
        run["config"]["seed"] += 3

    edit_runs(pair[1], later)
    for path in sorted(pair[1].glob("*/seed*")):
        path.rename(path.with_name(f"seed{int(path.name[4:]) + 30}"))
    edit(pair[1] / "run.json", lambda run: run["result"].update(seeds=[3, 4, 5]))
    both = merged(pair)
    assert all(list(by_seed) == [0, 1, 2, 3, 4, 5] for by_seed in both.runs.values())
    assert {row.num_seeds for row in summarize(both)} == {6}
    assert all(row.missing == () for row in summarize(both))


def test_rows_with_other_settings_stand_side_by_side(pair):
    edit_runs(pair[1], lambda run: run["config"]["train"].update(learning_rate=0.004), "conv/seed*/run.json")
    both = merged(pair)
    assert names(both)[-1] == "conv@other"
    assert len(both.variants) == 9
    row = next(row for row in summarize(both) if row.name == "conv@other")
    assert row.title == "Depthwise convolution (other)"
    assert row.changed_settings == ("model.token_mixers", "train.learning_rate")
    assert row.comparable
    assert row.difference is not None


def test_the_change_of_a_row_is_its_paired_difference(pair):
    def better(run):
        run["config"]["train"].update(learning_rate=0.004)
        run["result"]["test_accuracy_percent"] += 2 + 0.1 * run["seed"]

    edit_runs(pair[1], better, "no_mlp/seed*/run.json")
    edit_runs(pair[1], better, "conv/seed*/run.json")
    found = {change.name: change for change in changes(merge(*map(load_study, pair)))}
    assert list(found) == ["conv", "no_mlp"]
    for change in found.values():
        assert change.difference == pytest.approx(2.1)
        assert change.second - change.first == pytest.approx(2.1)
        assert [setting.path for setting in change.settings] == ["train.learning_rate"]
        assert (change.settings[0].base, change.settings[0].here) == ("0.002", "0.004")
    # A control has a spread of its own.
    expected = stats.sem([2.0, 2.1, 2.2]) * stats.t.ppf(0.975, 2)
    assert found["no_mlp"].half_width == pytest.approx(expected)
    assert found["conv"].verdict == "better"


def assert_nothing_is_said_against_the_base(both, why):
    added = [row for row in summarize(both) if row.name in [variant.name for variant in both.variants[8:]]]
    assert len(added) == 8
    for row in added:
        assert row.accuracy is not None
        assert (row.difference, row.p, row.verdict, row.why_no_verdict) == (None, None, "no verdict", why)
        assert not row.comparable
    alone = {row.name: row.verdict for row in summarize(both)[:8]}
    assert alone == {row.name: row.verdict for row in summarize(replace(both, variants=both.variants[:8]))}


def test_rows_on_other_data_get_no_verdict_against_this_base(pair):
    edit(pair[1] / "run.json", lambda run: run["result"]["data"].update(name="digits", title="Digits"))
    edit_runs(pair[1], lambda run: run["config"].update(data="digits"))
    both = merged(pair)
    assert all(variant.change.startswith("on other data, Digits; ") for variant in both.variants[8:])
    assert_nothing_is_said_against_the_base(both, "on other data, Digits")


def test_a_claim_does_not_hold_across_two_data_sets(pair):
    """The base of one data set and the identity of another, which the first study has not."""
    edit(pair[0] / "run.json", lambda run: run["result"].update(variants=run["result"]["variants"][:1]))
    edit(pair[1] / "run.json", lambda run: run["result"]["data"].update(name="digits", title="Digits"))
    edit_runs(pair[1], lambda run: run["config"].update(data="digits"))
    both = merged(pair)
    found = {one.claim.id: one for one in judge_claims(both, summarize(both))}
    assert (found["C2"].verdict, found["C3"].verdict) == (UNTESTED, UNTESTED)
    assert found["C2"].ours == "Identity was trained on other data, Digits"


@pytest.fixture
def in_other_folders(pair):
    """The same data, downloaded twice."""
    for folder, place in zip(pair, ("/a", "/b"), strict=True):
        edit(folder / "run.json", lambda run, place=place: run["result"]["data"].update(name=f"cifar10:{place}"))
        edit_runs(folder, lambda run, place=place: run["config"].update(data=f"cifar10:{place}"))
    return pair


def test_the_same_data_in_another_folder_are_the_same_data(in_other_folders):
    both = merged(in_other_folders)
    assert len(both.variants) == 8
    assert both.other_conditions == {}


@pytest.mark.parametrize("part", ["train", "preparation"])
def test_rows_of_another_budget_get_no_verdict_against_this_base(pair, part):
    edit(pair[1] / "run.json", lambda run: run["config"].update({part: {"epochs": 99}}))
    edit_runs(pair[1], lambda run: run["config"].update({part: {"epochs": 99}}))
    both = merged(pair)
    assert all(variant.change.startswith("under another recipe or budget; ") for variant in both.variants[8:])
    assert_nothing_is_said_against_the_base(both, "under another recipe or budget")


def test_a_planned_row_takes_over_the_runs_of_the_other_study(pair):
    config = json.loads((pair[0] / "conv/seed0/run.json").read_text())["config"]
    planned = {"variants": [{"about": {"name": "conv"}, "model": config["model"]}], "train": config["train"]}
    for folder in pair:
        edit(folder / "run.json", lambda run: run["config"].update(planned))
    shutil.rmtree(pair[0] / "conv")
    both = merged(pair)
    assert len(both.variants) == 8
    assert list(both.runs["conv"]) == [0, 1, 2]


def test_what_only_the_second_measured_is_kept(pair):
    def leave(folder, result):
        recorder = Recorder(type(result), name="x", config={}, command="", seed=None)
        recorder.result = result
        record = recorder.finish()
        record.write(folder / record.kind)

    def speed(*measured):
        latency = Spread(median=1.0, low=1.0, high=1.0)
        rows = tuple(VariantSpeed(name=name, latency_ms=latency, memory_mib=memory) for name, memory in measured)
        return Speed(batch_size=1, num_threads=1, cpu_share=None, variants=rows)

    leave(pair[0], speed(("mlp", 1.5)))
    leave(pair[1], speed(("mlp", 2.5), ("conv", 3.5)))
    leave(pair[1], Scaling(batch_size=1, num_threads=1, num_rounds=1, cpu_share=None, series=()))
    edit_runs(pair[1], lambda run: run["config"]["train"].update(learning_rate=0.004), "conv/seed*/run.json")
    both = merged(pair)
    assert (both.scaling is None, both.tuning) == (False, None)
    memory = {row.name: row.memory_mib for row in summarize(both)}
    assert (memory["mlp"], memory["conv"], memory["conv@other"]) == (1.5, None, 3.5)


def test_own_rates_of_the_second_study_are_kept(pair):
    shutil.copytree(pair[1], pair[1] / "tuned")
    assert merged(pair).tuned.folder == pair[1] / "tuned"


def test_a_row_that_only_the_second_has_is_added_with_its_seeds(pair):
    shutil.rmtree(pair[0] / "mlp")
    edit(pair[0] / "run.json", lambda run: run["result"].update(variants=run["result"]["variants"][:5]))
    shutil.rmtree(pair[0] / "batch_norm")
    shutil.rmtree(pair[0] / "no_mlp")
    edit(pair[0] / "run.json", lambda run: run["result"].update(seeds=[0, 1, 2, 3]))
    both = merged(pair)
    assert names(both)[5:] == ["mlp", "batch_norm", "no_mlp"]
    assert both.missing_seeds("mlp") == ()
    assert both.missing_seeds("conv") == (3,)


def fail(run):
    run.update(result=None, failure={"kind": "diverged", "message": "loss became nan"})


def test_a_failed_run_gives_way_to_a_good_one(pair):
    edit(pair[0] / "conv" / "seed1" / "run.json", fail)
    assert merged(pair).runs["conv"][1].failure is None


def test_another_result_of_the_same_run_is_pointed_out(pair):
    edit(pair[1] / "conv/seed1/run.json", lambda run: run["result"].update(test_accuracy_percent=12.0))
    both = merged(pair)
    assert both.runs["conv"][1].measured.test_accuracy_percent != 12.0
    assert list(both.unreadable) == [f"{pair[1]}/conv/seed1"]


def test_a_study_is_not_compared_with_itself(study_folder):
    study = load_study(study_folder)
    with pytest.raises(DataError, match="is compared with itself"):
        merge(study, study)


def test_the_page_of_two_studies_shows_what_changed(pair):
    def better(run):
        run["config"]["train"].update(learning_rate=0.004)
        run["result"]["test_accuracy_percent"] += 5

    edit_runs(pair[1], better, "conv/seed*/run.json")
    target = report(pair[0], pair[1:]).page
    assert target == pair[0] / "report-with-other.html"
    text = target.read_text(encoding="utf-8")
    assert "Study against study" in text
    assert "<code>train.learning_rate</code>: 0.002 / 0.004" in text
