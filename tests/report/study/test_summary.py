import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from metaformer.report.study.load import load_study
from metaformer.report.study.row import Row
from metaformer.report.study.summary import headline, spread_of, summarize


def rows_of(folder):
    return {row.name: row for row in summarize(load_study(folder))}


def edit_run(folder, variant, seed, change):
    path = folder / variant / f"seed{seed}" / "run.json"
    run = json.loads(path.read_text())
    change(run)
    path.write_text(json.dumps(run))


def fail(folder, variant, seed):
    def change(run):
        run.update(result=None, failure={"kind": "diverged", "message": "loss became NaN at epoch 3"})

    edit_run(folder, variant, seed, change)


def test_rows_hold_what_was_measured(study_folder):
    rows = rows_of(study_folder)
    conv, base = rows["conv"], rows["pooling"]
    assert conv.num_seeds == 3
    assert conv.accuracy == pytest.approx(np.mean(list(conv.values.values())))
    assert conv.difference == pytest.approx(conv.accuracy - base.accuracy)
    assert conv.paper_difference == pytest.approx(78.1 - 77.2)
    assert (conv.params, conv.frozen, conv.macs) == (216_000, 0, 9_800_000)
    assert rows["random"].frozen == 3136
    assert conv.images_per_second.low <= conv.images_per_second.median <= conv.images_per_second.high
    assert len(conv.curves["validation_accuracy_percent"][0]) == 15
    assert len(conv.per_class_difference) == 10
    assert base.verdict == "base"
    assert base.difference is None
    assert (conv.verdict, rows["identity"].verdict, rows["mlp"].verdict) == ("better", "worse", "not told apart")


def test_comparable_rows_share_their_spread_as_far_as_they_agree_and_controls_have_their_own(study_folder):
    rows = rows_of(study_folder)
    spread = spread_of(list(rows.values())).rows
    alike = [rows[name] for name in spread.variances if name not in spread.wide]
    assert len(alike) >= 5
    # Made with one spread for all, they are nearer to each other than any two samples of three.
    drawn = [spread.variances[row.name].value for row in alike]
    assert max(drawn) / min(drawn) < 2
    control, base = rows["no_mlp"], rows["pooling"]
    values = list(control.values.values())
    assert control.half_width == pytest.approx(stats.sem(values) * stats.t.ppf(0.975, 2))
    expected = stats.ttest_rel(values, list(base.values.values()))
    assert control.p == pytest.approx(expected.pvalue)


def test_the_family_of_the_correction_is_every_row_but_the_base(study_folder):
    rows = rows_of(study_folder)
    smallest = min((row for row in rows.values() if row.p is not None), key=lambda row: row.p)
    assert smallest.p_holm == pytest.approx(7 * smallest.p)


def test_the_token_mixer_is_found_in_the_config(study_folder):
    rows = rows_of(study_folder)
    assert rows["hybrid"].changes_token_mixer
    assert not rows["batch_norm"].changes_token_mixer
    assert rows["batch_norm"].changed_settings == ("model.norm",)


def test_one_seed_gives_numbers_and_no_verdict(make_study):
    folder = make_study(num_seeds=1)
    rows = rows_of(folder)
    assert all(row.half_width is None and row.p is None for row in rows.values())
    assert {row.verdict for row in rows.values()} == {"base", "no verdict"}
    assert rows["conv"].difference is not None
    assert rows["conv"].note == "one seed, so no interval"
    assert "yet: 1 common seed, and a verdict needs 3." in headline(list(rows.values()))


def test_a_failed_run_enters_no_mean(study_folder):
    before = rows_of(study_folder)["conv"].values
    fail(study_folder, "conv", 1)
    conv = rows_of(study_folder)["conv"]
    assert conv.values == {seed: before[seed] for seed in (0, 2)}
    assert conv.failures[1].message == "loss became NaN at epoch 3"
    assert (conv.verdict, conv.why_no_verdict) == ("no verdict", "2 common seeds, and a verdict needs 3")
    assert conv.difference_half_width > 0


def test_a_variant_without_runs_keeps_its_row(study_folder):
    shutil.rmtree(study_folder / "conv")
    rows = rows_of(study_folder)
    assert rows["conv"].accuracy is None
    assert rows["conv"].verdict == "no verdict"
    assert rows["conv"].missing == (0, 1, 2)
    assert rows["conv"].note == "no run has ended well"
    assert rows["identity"].verdict == "worse"


def test_without_the_base_there_is_no_answer(study_folder):
    for seed in range(3):
        fail(study_folder, "pooling", seed)
    rows = rows_of(study_folder)
    assert rows["conv"].accuracy is not None
    assert rows["conv"].difference is None
    assert "no answer yet" in headline(list(rows.values()))


def test_seeds_that_agree_exactly_claim_nothing(study_folder):
    for variant in ("pooling", "no_mlp"):
        for seed in range(3):
            edit_run(study_folder, variant, seed, lambda run: run["result"].update(test_accuracy_percent=10.0))
    control = rows_of(study_folder)["no_mlp"]
    assert control.half_width is None
    assert control.verdict == "no verdict"
    assert control.note == "every seed gave the same number, so no interval"


BASE = Row(
    name="pooling", title="Pooling", change="", is_base=True, verdict="base", values={0: 80.0, 1: 80.0}, accuracy=80.0
)
OTHER = replace(BASE, is_base=False, changed_settings=("model.token_mixers",))


def row(title, difference, verdict, **rest):
    return replace(OTHER, name=title, title=title, difference=difference, verdict=verdict, **rest)


def test_the_headline_counts_verdicts(study_folder):
    text = headline(summarize(load_study(study_folder)), data="Cluttered digits")
    assert text.startswith(
        "On cluttered digits, of five other token mixers compared to Pooling 3x3 with 3 seeds, two do better"
    )
    assert "one is not told apart from it" in text
    assert "the largest loss is 69.3 points, with No channel MLP." in text


def test_the_headline_claims_nothing_that_intervals_do_not_support():
    rows = [BASE, row("A", 1.4, "not told apart"), row("B", -0.2, "not told apart")]
    assert headline(rows, data="CIFAR-10") == (
        "On CIFAR-10, none of the two other token mixers is told apart from Pooling with 2 seeds "
        "(\N{MINUS SIGN}0.2 to +1.4 points)."
    )


def test_the_headline_of_a_single_other_row():
    assert headline([BASE, row("A", 1.4, "better")], data="X") == (
        "On X, of one other token mixer compared to Pooling with 2 seeds, one does better (A +1.4 points)."
    )
    assert "the other token mixer is not told apart" in headline([BASE, row("A", 1.4, "not told apart")])


def test_the_headline_without_token_mixers_speaks_of_variants():
    assert "of one variant compared" in headline([BASE, row("A", -1.0, "worse", changed_settings=("model.norm",))])


def test_the_headline_shortens_long_lists():
    rows = [BASE, *(row(name, value, "better") for name, value in zip("ABCDE", (5.0, 4.0, 3.0, 2.0, 1.0), strict=True))]
    assert "five do better (A +5.0, B +4.0, C +3.0 and two more)" in headline(rows)


def test_the_headline_of_a_base_alone():
    assert headline([BASE], data="X") == "On X, Pooling reaches 80.0%; there is nothing to compare it to."


def test_the_headline_names_the_largest_gain_beyond_the_mixer_too():
    other = {"changed_settings": ("model.options",)}
    rows = [
        BASE,
        row("A", -1.0, "worse"),
        row("ResNet", 3.0, "better", **other),
        row("ViT", 1.0, "better", **other),
        row("No norm", -20.0, "worse", **other),
    ]
    assert headline(rows).endswith(
        "; beyond the mixer, the largest gain over Pooling is 3.0 points, with ResNet and the largest loss is "
        "20.0 points, with No norm."
    )


def test_the_paper_has_no_difference_for_a_model_of_another_size(study_folder):
    path = study_folder / "run.json"
    record = json.loads(path.read_text())
    record["result"]["variants"][3]["paper_same_size"] = False
    path.write_text(json.dumps(record))
    conv = rows_of(study_folder)["conv"]
    assert (conv.paper_top1, conv.paper_difference) == (78.1, None)


def test_rows_without_a_verdict_are_counted_apart():
    rows = [BASE, row("A", 1.0, "better"), row("B", None, "no verdict")]
    assert headline(rows).endswith("; one has no verdict yet.")
