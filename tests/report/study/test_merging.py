import json
import shutil

import pytest
from scipy import stats

from metaformer.core.errors import DataError
from metaformer.report.pages.study_page import write_comparison
from metaformer.report.study.load import load_study
from metaformer.report.study.merging import changes, merge, merge_all
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
    return merge(*map(load_study, pair))


def names(study):
    return [variant.name for variant in study.variants]


def test_the_same_runs_count_once(pair):
    both, alone = merged(pair), load_study(pair[0])
    assert names(both) == names(alone)
    assert both.runs == alone.runs
    assert both.unreadable == {}
    assert changes(*map(load_study, pair)) == []


def test_other_seeds_of_the_same_settings_join(pair):
    def later(run):
        run["seed"] += 3
        run["config"]["seed"] += 3

    edit_runs(pair[1], later)
    for path in sorted(pair[1].glob("*/seed*")):
        path.rename(path.with_name(f"seed{int(path.name[4:]) + 30}"))
    edit(pair[1] / "run.json", lambda run: run["config"].update(seeds=[3, 4, 5]))
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


def test_the_change_of_a_row_is_its_paired_difference(pair):
    def better(run):
        run["config"]["train"].update(learning_rate=0.004)
        run["metrics"]["test_accuracy"]["value"] += 2 + 0.1 * run["seed"]

    edit_runs(pair[1], better, "no_mlp/seed*/run.json")
    edit_runs(pair[1], better, "conv/seed*/run.json")
    found = {change.name: change for change in changes(*map(load_study, pair))}
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


def test_rows_on_other_data_say_so_and_share_no_spread(pair):
    edit(pair[1] / "run.json", lambda run: run["labels"]["data"].update(name="digits", title="Digits"))
    edit_runs(pair[1], lambda run: run["config"].update(data="digits"))
    added = merged(pair).variants[8:]
    assert len(added) == 8
    assert all(not variant.comparable for variant in added)
    assert all(variant.change.startswith("on other data, Digits; ") for variant in added)


@pytest.fixture
def in_other_folders(pair):
    """The same data, downloaded twice."""
    for folder, place in zip(pair, ("/a", "/b"), strict=True):
        edit(folder / "run.json", lambda run, place=place: run["labels"]["data"].update(name=f"cifar10:{place}"))
        edit_runs(folder, lambda run, place=place: run["config"].update(data=f"cifar10:{place}"))
    return pair


def test_the_same_data_in_another_folder_are_the_same_data(in_other_folders):
    both = merged(in_other_folders)
    assert len(both.variants) == 8
    assert all(variant.comparable for variant in both.variants[:7])


@pytest.mark.parametrize("part", ["train", "preparation"])
def test_rows_of_another_budget_share_no_spread(pair, part):
    edit(pair[1] / "run.json", lambda run: run["config"].update({part: {"epochs": 99}}))
    edit_runs(pair[1], lambda run: run["config"].update({part: {"epochs": 99}}))
    added = merged(pair).variants[8:]
    assert len(added) == 8
    assert all(not variant.comparable for variant in added)
    assert all(variant.change.startswith("under another recipe or budget; ") for variant in added)


def test_a_planned_row_takes_over_the_runs_of_the_other_study(pair):
    config = json.loads((pair[0] / "conv/seed0/run.json").read_text())["config"]
    planned = {"variants": [{"name": "conv", "model": config["model"]}], "train": config["train"]}
    for folder in pair:
        edit(folder / "run.json", lambda run: run["config"].update(planned))
    shutil.rmtree(pair[0] / "conv")
    both = merged(pair)
    assert len(both.variants) == 8
    assert list(both.runs["conv"]) == [0, 1, 2]


def test_what_only_the_second_measured_is_kept(pair):
    record = json.loads((pair[1] / "run.json").read_text())
    for kind, rows in (("speed", "variants"), ("scaling", "series")):
        (pair[1] / kind).mkdir()
        listed = [{"name": "conv", "memory_mib": 3.5}]
        (pair[1] / kind / "run.json").write_text(json.dumps(record | {"kind": kind, "labels": {rows: listed}}))
    shutil.copytree(pair[1] / "speed", pair[0] / "speed")
    edit(pair[0] / "speed/run.json", lambda run: run["labels"].update(variants=[{"name": "mlp", "memory_mib": 1.5}]))
    edit_runs(pair[1], lambda run: run["config"]["train"].update(learning_rate=0.004), "conv/seed*/run.json")
    both = merged(pair)
    assert set(both.extras) == {"speed", "scaling"}
    memory = {row.name: row.memory_mib for row in summarize(both)}
    assert (memory["mlp"], memory["conv"], memory["conv@other"]) == (1.5, None, 3.5)


def test_own_rates_of_the_second_study_are_kept(pair):
    shutil.copytree(pair[1], pair[1] / "tuned")
    assert merged(pair).tuned.folder == pair[1] / "tuned"


def test_a_row_that_only_the_second_has_is_added_with_its_seeds(pair):
    shutil.rmtree(pair[0] / "mlp")
    edit(pair[0] / "run.json", lambda run: run["labels"].update(variants=run["labels"]["variants"][:5]))
    shutil.rmtree(pair[0] / "batch_norm")
    shutil.rmtree(pair[0] / "no_mlp")
    edit(pair[0] / "run.json", lambda run: run["config"].update(seeds=[0, 1, 2, 3]))
    both = merged(pair)
    assert names(both)[5:] == ["mlp", "batch_norm", "no_mlp"]
    assert both.missing_seeds("mlp") == ()
    assert both.missing_seeds("conv") == (3,)


def test_a_failed_run_gives_way_to_a_good_one(pair):
    edit(pair[0] / "conv" / "seed1" / "run.json", lambda run: run.update(error="loss became nan", metrics={}))
    assert merged(pair).runs["conv"][1].error is None


def test_another_result_of_the_same_run_is_pointed_out(pair):
    edit(pair[1] / "conv/seed1/run.json", lambda run: run["metrics"]["test_accuracy"].update(value=12.0))
    both = merged(pair)
    assert both.runs["conv"][1].metrics["test_accuracy"].value != 12.0
    assert list(both.unreadable) == [f"{pair[1]}/conv/seed1"]


def test_a_study_is_not_compared_with_itself(study_folder):
    study = load_study(study_folder)
    with pytest.raises(DataError, match="is compared with itself"):
        merge(study, study)


def test_studies_that_measure_other_things_are_refused(pair):
    edit(pair[1] / "run.json", lambda run: run["labels"].update(primary="test_loss"))
    with pytest.raises(DataError, match=r"is judged by test_accuracy, .* by test_loss"):
        merged(pair)


def test_three_studies_merge_one_by_one(pair, tmp_path):
    shutil.copytree(pair[0], tmp_path / "third")
    edit_runs(tmp_path / "third", lambda run: run["config"].update(data="x"), "conv/seed*/run.json")
    both = merge_all([load_study(folder) for folder in (*pair, tmp_path / "third")])
    assert names(both)[-1] == "conv@third"


def test_the_page_of_two_studies_shows_what_changed(pair):
    def better(run):
        run["config"]["train"].update(learning_rate=0.004)
        run["metrics"]["test_accuracy"]["value"] += 5

    edit_runs(pair[1], better, "conv/seed*/run.json")
    target = write_comparison(*pair)
    assert target == pair[0] / "report-with-other.html"
    text = target.read_text(encoding="utf-8")
    assert "Study against study" in text
    assert "<code>train.learning_rate</code>: 0.002 / 0.004" in text
