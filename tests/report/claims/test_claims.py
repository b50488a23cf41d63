"""Claims judged by rows that are made up: each rule in each of its outcomes."""

import json
from dataclasses import replace

import pytest

from metaformer.core.records import CostSeries, Exponent, Failure, Recorder, Scaling, SizeCost
from metaformer.report.claims.claims import CLAIMS, UNTESTED, Claim, is_tested, judge_claims
from metaformer.report.claims.evidence import Evidence, UntestedError
from metaformer.report.claims.tables import claims_csv, claims_latex, claims_markdown, claims_rich_table
from metaformer.report.stats.seed_spread import own_variance
from metaformer.report.stats.statistics import half_width
from metaformer.report.stats.statistics import verdict as verdict_of
from metaformer.report.study.load import load_study
from metaformer.report.study.row import Row
from metaformer.report.study.summary import summarize

BY_ID: dict[str, Claim] = {claim.id: claim for claim in CLAIMS}
BASE = Row(
    name="pooling",
    title="Pooling",
    change="",
    is_base=True,
    values={0: 80.0, 1: 80.4, 2: 79.6},
    accuracy=80.0,
    half_width=0.5,
    verdict="base",
    macs=1000,
)
NOISE = {0: 0.1, 1: -0.1, 2: 0.0}


def row(name, difference, *, half=0.5, p_holm=None, macs=1050, **facts):
    """A row this far from the base; told apart where its interval leaves out zero."""
    difference, half = float(difference), float(half)
    p_holm = p_holm if p_holm is not None else (0.001 if abs(difference) > half else 0.5)
    return Row(
        name=name,
        title=name,
        change="",
        values={seed: value + difference + NOISE[seed] for seed, value in BASE.values.items()},
        accuracy=80.0 + difference,
        half_width=half,
        difference=difference,
        difference_half_width=half,
        p=p_holm,
        p_holm=p_holm,
        verdict=verdict_of(difference, p_holm),
        macs=macs,
        **facts,
    )


def rows(half=0.5, **differences):
    return [row(name, difference, half=half) for name, difference in differences.items()]


def judged(claim, others, **options):
    evidence = Evidence([BASE, *others], chance=10.0, **options)
    return BY_ID[claim].judge(evidence).verdict


@pytest.mark.parametrize(
    ("claim", "others", "verdict"),
    [
        ("C1", rows(resnet=-5, resmlp=-0.2, vit=-3), "holds"),
        ("C1", rows(resnet=5, resmlp=-0.2, vit=-3), "contradicted"),
        ("C1", rows(resnet=-5, resmlp=0.8, vit=-3, half=0.9), "not told apart"),
        ("C2", rows(identity=-3), "holds"),
        ("C2", rows(identity=-9), "contradicted"),
        ("C2", rows(identity=-7, half=1), "not told apart"),
        ("C3", rows(random=-1, identity=-4), "holds"),
        ("C3", rows(random=-4, identity=-1), "contradicted"),
        ("C3", rows(random=-4.0, identity=-4.02), "not told apart"),
        ("C3", rows(random=-60, identity=-65), "contradicted"),
        ("C4", rows(depthwise_conv=2), "holds"),
        ("C4", rows(depthwise_conv=-2), "contradicted"),
        ("C4", rows(depthwise_conv=0.2), "not told apart"),
        ("C5", rows(relu=-2, silu=0), "holds"),
        ("C5", rows(relu=2, silu=0), "contradicted"),
        ("C5", rows(relu=-0.1, silu=0), "not told apart"),
        ("C6", rows(no_residual=-70, no_residual_no_scale=-69), "holds"),
        ("C6", rows(no_residual=-70, no_residual_no_scale=-5), "contradicted"),
        ("C6", rows(no_residual=-63, half=2), "not told apart"),
        ("C7", rows(no_channel_mlp=-60), "holds"),
        ("C7", rows(no_channel_mlp=-30), "contradicted"),
        ("C7", rows(no_channel_mlp=-52.5, half=2), "not told apart"),
        ("C8", rows(pppa=1, ppaa=3, pppf=0.8, ppff=0.9), "holds"),
        ("C8", rows(pppa=1, ppaa=-3, pppf=0.8, ppff=0.9), "contradicted"),
        ("C8", rows(ppaa=3, ppff=0.1), "not told apart"),
        ("C9", rows(layer_norm=-1, batch_norm=-2, no_norm=-30), "holds"),
        ("C9", rows(layer_norm=-1, batch_norm=2, no_norm=-30), "contradicted"),
        ("C9", rows(layer_norm=-1, batch_norm=-2, no_norm=-3), "contradicted"),
        ("C9", rows(layer_norm=-1, batch_norm=-0.1, no_norm=-30), "not told apart"),
        ("C10", rows(pool_5=0, pool_7=-0.2, pool_9=-0.4), "holds"),
        ("C10", rows(pool_5=0, pool_7=-0.2, pool_9=-2), "contradicted"),
        ("C10", rows(pool_5=0, pool_7=-0.2, pool_9=-0.8), "not told apart"),
    ],
)
def test_each_rule_has_each_outcome(claim, others, verdict):
    assert judged(claim, others) == verdict


def series(name, exponent, *, params=0, grows=None, spread=0.05):
    low, high = (exponent - spread, exponent + spread) if exponent else (0, 0)
    point = SizeCost(num_tokens=64, params=params, frozen=0, macs=1, memory_mib=1.0)
    fitted = Exponent(value=exponent, low=low, high=high, fitted_tokens=(64,)) if exponent else None
    counts = {"macs_exponent": None, "params_exponent": grows, "memory_exponent": None}
    return CostSeries(name=name, level="mixer", points=(point,), time_exponent=fitted, **counts)


def scaling(pooling=1.0, attention=1.9, mlp=2.0, *, params=0, grows=2.0, spread=0.05, cpu_share=None):
    return Scaling(
        batch_size=1,
        num_threads=1,
        num_rounds=15,
        cpu_share=cpu_share,
        series=(
            series("pooling", pooling, params=params, spread=spread),
            series("attention", attention, params=9, spread=spread),
            series("spatial_mlp", mlp, params=9, grows=grows, spread=spread),
        ),
    )


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        (scaling(), "holds"),
        (scaling(pooling=1.6), "contradicted"),
        (scaling(attention=1.1), "contradicted"),
        (scaling(params=3), "contradicted"),
        (scaling(grows=None), "contradicted"),
        (scaling(attention=1.45), "not told apart"),
        (scaling(pooling=1.2, spread=0.2), "not told apart"),
    ],
)
def test_the_rule_of_cost_reads_the_scaling_record(record, verdict):
    assert judged("C11", [], scaling=record) == verdict


def test_times_of_a_busy_machine_give_no_verdict():
    assert judged("C11", [], scaling=scaling(cpu_share=0.99)) == "holds"
    with pytest.raises(UntestedError, match=r"^the machine was busy: while cost was measured, 40% of the time"):
        judged("C11", [], scaling=scaling(cpu_share=0.4))


@pytest.mark.parametrize("record", [None, replace(scaling(), series=()), scaling(pooling=None)], ids=str)
def test_without_a_fitted_exponent_there_is_no_verdict_on_cost(record):
    with pytest.raises(UntestedError, match=r"scaling record|fixed overhead"):
        judged("C11", [], scaling=record)


@pytest.mark.parametrize("claim", [claim.id for claim in CLAIMS])
def test_without_its_rows_no_claim_has_a_verdict(claim):
    with pytest.raises(UntestedError):
        judged(claim, [])


def test_one_seed_gives_no_verdict():
    one = replace(
        row("identity", -3), values={0: 77.0}, difference_half_width=None, verdict="no verdict", half_width=None
    )
    with pytest.raises(UntestedError, match=r"^identity: 1 run ended well, and a verdict needs 3 seeds$"):
        judged("C2", [one])


NAN = Failure(kind="diverged", message="the loss became nan in epoch 1, step 3")


def diverged(name, failures, values=None):
    return Row(name=name, title=name, change="", control=True, comparable=False, failures=failures, values=values or {})


def test_a_row_that_diverged_everywhere_did_not_converge():
    errors = dict.fromkeys(range(3), NAN)
    assert judged("C6", [diverged("no_residual", errors)]) == "holds"
    assert judged("C7", [diverged("no_channel_mlp", errors)]) == "holds"
    with pytest.raises(UntestedError, match="no run ended well"):
        judged("C6", [diverged("no_residual", dict.fromkeys(range(3), Failure(kind="settings", message="wrong size")))])


def test_one_diverged_run_says_nothing_while_the_others_are_missing():
    with pytest.raises(UntestedError, match=r"0 runs ended well and 1 diverged, and a verdict needs 3 seeds$"):
        judged("C6", [diverged("no_residual", {0: NAN})])


def test_a_diverged_run_counts_as_chance_beside_those_that_ended_well():
    """The survivors alone would lie at 79 of 70 points over chance; with the others nothing is told."""
    mixed = diverged("no_residual", {1: NAN, 2: NAN}, {0: 79.0})
    assert judged("C6", [mixed]) == "not told apart"
    level = Evidence([BASE, mixed], chance=10.0).level("no_residual", 0.1)
    assert "33.0" in level.text
    assert "(2 of 3 runs diverged and count as chance)" in level.text
    near_chance = diverged("no_residual", {2: NAN}, {0: 10.2, 1: 10.1})
    assert judged("C6", [near_chance]) == "holds"


def test_runs_that_all_end_at_chance_need_no_interval():
    stuck = replace(row("no_residual", -70), values=dict.fromkeys(range(3), 10.0), half_width=None)
    assert judged("C6", [stuck]) == "holds"


@pytest.mark.parametrize("macs", [None, 880, 1120])
def test_another_architecture_is_judged_at_equal_cost_only(macs):
    others = [row("resnet", -5), row("resmlp", -0.2, macs=macs), row("vit", -3)]
    with pytest.raises(UntestedError, match=r"^resmlp.*MACs"):
        judged("C1", others)


def test_two_common_seeds_give_no_verdict():
    two = replace(row("identity", -3), verdict="no verdict", p_holm=None, why_no_verdict="2 common seeds, and so on")
    with pytest.raises(UntestedError, match=r"^identity: 2 common seeds, and so on$"):
        judged("C2", [two])


def test_no_verdict_without_chance_or_above_it():
    others = rows(no_channel_mlp=-60)
    for chance in (None, 80.0):
        with pytest.raises(UntestedError, match="chance"):
            BY_ID["C7"].judge(Evidence([BASE, *others], chance=chance))


def test_a_study_is_judged_from_its_records(study_folder):
    study = load_study(study_folder)
    found = {one.claim.id: one for one in judge_claims(study, summarize(study))}
    assert list(found) == [f"C{number}" for number in range(1, 12)]
    # The made-up study has other names for some rows; random is better than identity in it.
    assert found["C3"].verdict == "holds"
    assert "Random matrix minus Identity +" in found["C3"].ours
    assert found["C4"].verdict == UNTESTED
    assert found["C4"].ours == "the study has no row 'depthwise_conv'"
    assert is_tested(list(found.values()))


def test_against_another_base_only_cost_is_judged(study_folder):
    """A card's study has the mixer of the card as its base, and rows that the claims know by name."""
    path = study_folder / "run.json"
    record = json.loads(path.read_text())
    record["result"].update(base="conv")
    path.write_text(json.dumps(record))
    recorder = Recorder(Scaling, name="scaling", config={}, command="", seed=None)
    recorder.result = scaling()
    study = replace(load_study(study_folder), scaling=recorder.finish())
    found = {one.claim.id: one for one in judge_claims(study, summarize(study))}
    assert found.pop("C11").verdict == "holds"
    assert {one.verdict for one in found.values()} == {UNTESTED}
    assert {one.ours for one in found.values()} == {"the base is Depthwise convolution, not pooling"}


def test_rules_that_rest_on_pairs_say_how_these_are_corrected():
    assert [claim.id for claim in CLAIMS if "corrects these two among themselves" in claim.rule] == ["C3", "C5"]


def test_tables_of_claims(study_folder, capsys):
    study = load_study(study_folder)
    found = judge_claims(study, summarize(study))
    lines = claims_markdown(found).splitlines()
    assert len(lines) == 2 + len(CLAIMS)
    assert all(line.count(" | ") == 3 for line in lines)
    assert len(claims_csv(found).splitlines()) == 1 + len(CLAIMS)
    tex = claims_latex(found)
    assert tex.count(r"\\") == 1 + len(CLAIMS)
    assert r"$-$10\%" not in tex
    from rich.console import Console

    Console(width=200).print(claims_rich_table(found))
    shown = capsys.readouterr().out
    assert "C3" in shown
    assert "not tested at this scale: C" in shown


def test_every_claim_says_its_rule_in_words():
    for claim in CLAIMS:
        assert "olds if" in claim.rule or claim.rule.startswith("As C6")
        assert claim.judge.__doc__ == f"{claim.id}."


def scattered(name, values, *, is_base=False):
    """A row as its seeds have it."""
    accuracy = sum(values) / len(values)
    half = half_width(own_variance(list(values)), len(values))
    facts = {"control": not is_base, "comparable": is_base, "is_base": is_base}
    return Row(
        name=name, title=name, change="", values=dict(enumerate(values)), accuracy=accuracy, half_width=half, **facts
    )


@pytest.mark.parametrize("claim", ["C6", "C7"])
def test_a_base_that_hardly_learned_lets_no_level_hold(claim):
    """Two of its three seeds ended beside chance: what a tenth or a quarter of it is, nobody knows."""
    name = {"C6": "no_residual", "C7": "no_channel_mlp"}[claim]
    base, row = scattered("pooling", (12.0, 14.0, 60.0), is_base=True), scattered(name, (10.1, 10.0, 9.9))
    assert BY_ID[claim].judge(Evidence([base, row], chance=10.0)).verdict == "not told apart"
    steady = scattered("pooling", (58.0, 62.0, 60.0), is_base=True)
    assert BY_ID[claim].judge(Evidence([steady, row], chance=10.0)).verdict == "holds"


def test_levels_pair_seeds_so_that_what_a_seed_does_to_both_rows_cancels():
    base = scattered("pooling", (70.0, 80.0, 90.0), is_base=True)
    row = scattered("identity", (67.0, 76.1, 85.0))
    level = Evidence([base, row], chance=10.0).level("identity", 0.9)
    # Row minus chance minus nine tenths of the base's: 3.0, 3.1 and 3.0 points.
    assert 2.8 < level.low < level.high < 3.3
