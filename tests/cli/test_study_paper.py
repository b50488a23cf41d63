"""`metaformer study paper` between its options and the study, without training anything."""

import importlib
import re
from dataclasses import replace

import pytest

from metaformer.cli.parsing import UsageError, parse_and_call
from metaformer.core.errors import ConfigError
from metaformer.core.records import Failure, read_record
from metaformer.study.config import choose_variants
from metaformer.study.event import StudyEvent
from metaformer.study.folder import plan
from metaformer.study.local_processes import LocalProcesses
from metaformer.study.ray_cluster import RayCluster
from metaformer.study.worker import EXECUTION

# The function has the name of its module.
study_paper = importlib.import_module("metaformer.cli.study_paper")


def run(*words):
    return parse_and_call(study_paper.study_paper, list(words), prog="metaformer study paper")


@pytest.fixture
def asked(monkeypatch):
    """What the library would have been asked; every run ends as `kind` says."""
    calls = {"kind": "finished", "failure": None, "order": [], "outs": []}

    def run_study(study, **options):
        calls["order"].append("runs")
        calls["outs"].append(options["out"])
        calls.setdefault("study", study)
        calls.update({key: options.get(key) for key in ("variants", "executor", "adopt_from")})
        names = options.get("variants") or tuple(variant.name for variant in study.variants)
        chosen = {variant.name for variant in choose_variants(study, names)}
        for one in plan(study):
            if one.name in chosen:
                yield StudyEvent(kind="started", run=one)
                yield StudyEvent(kind=calls["kind"], run=one, failure=calls["failure"])

    def tune_study(study, tune, **options):
        calls["order"].append("tuning")
        calls["tune"], calls["tuned_names"] = tune, options["variants"]
        yield from ()

    def measured(what):
        def measure(*_, **options):
            calls["order"].append(what)
            yield 1, 1

        return measure

    def matched(study, measure, data):
        calls.update(match=measure, match_data=data.facts.name)
        return study

    monkeypatch.setattr(study_paper, "matched", matched)
    monkeypatch.setattr(study_paper, "run_study", run_study)
    monkeypatch.setattr(study_paper, "tune_study", tune_study)
    monkeypatch.setattr(study_paper, "tuned", lambda study, out: study)
    monkeypatch.setattr(study_paper, "measure_speed", measured("speed"))
    monkeypatch.setattr(study_paper, "measure_scaling", measured("scaling"))
    monkeypatch.setattr(study_paper, "report", lambda out: out)
    monkeypatch.setattr(study_paper, "show_report", lambda console, out: calls["order"].append("report"))
    return calls


def test_without_options_it_is_the_digits_study(asked):
    assert run() == 0
    study = asked["study"]
    assert (study.name, study.data, study.seeds) == ("paper-digits", "cluttered-digits", (0, 1, 2))
    assert len(study.variants) == 27
    # Rows that ask for it themselves are matched in any case.
    assert (asked["match"], asked["match_data"]) == ("", "cluttered-digits")
    assert [str(out) for out in asked["outs"]] == ["runs/paper"]
    # What is timed comes after the trainings.
    assert asked["order"] == ["runs", "speed", "scaling", "report"]
    assert asked["executor"] == LocalProcesses()


def test_options_reach_the_study(asked, tmp_path):
    words = ["--seeds", "4,2", "--epochs", "3", "--lr", "0.5", "--workers", "3", "--variants", "pooling, identity"]
    assert run(*words, "--out", str(tmp_path / "x"), "--match", "params") == 0
    study = asked["study"]
    assert (study.seeds, study.train.epochs, study.train.lr) == ((4, 2), 3, 0.5)
    assert asked["variants"] == ("pooling", "identity")
    assert asked["executor"] == LocalProcesses(num_workers=3)
    assert asked["match"] == "params"


def test_tuning_comes_after_the_runs_and_its_runs_have_a_folder_of_their_own(asked, tmp_path):
    words = ["--tune", "lr", "--tuning.factors", "0.5", "1", "--variants", "pooling", "--parts", "runs"]
    assert run(*words, "--out", str(tmp_path / "x")) == 0
    assert asked["order"] == ["runs", "tuning", "runs", "report"]
    assert asked["tuned_names"] == ("pooling",)
    assert asked["tune"].factors == (0.5, 1.0)
    assert asked["outs"] == [tmp_path / "x", tmp_path / "x" / "tuned"]
    assert asked["adopt_from"] == tmp_path / "x"
    # The part that was asked for, of the whole study: other rows keep what they have.
    assert asked["variants"] == ("pooling",)


def test_how_runs_are_carried_out_reaches_them_and_not_their_settings(asked, monkeypatch):
    words = ["--execution.micro-batch-size", "64", "--execution.num-workers", "2", "--workers", "8"]
    assert run(*words, "--parts", "runs") == 0
    execution = replace(EXECUTION, micro_batch_size=64, num_workers=2)
    assert asked["executor"] == LocalProcesses(num_workers=8, execution=execution)
    with_it, without = asked.pop("study"), run("--parts", "runs") or asked["study"]
    assert plan(with_it) == plan(without)
    monkeypatch.setattr("metaformer.study.ray_cluster._ray", lambda: None)
    assert run(*words, "--parts", "runs", "--ray", "auto") == 0
    assert asked["executor"] == RayCluster(address="auto", num_workers=8, execution=execution)


def test_a_part_alone_leaves_a_record_that_a_report_can_read(asked, tmp_path):
    assert run("--parts", "scaling", "--out", str(tmp_path / "x")) == 0
    assert asked["order"] == ["scaling", "report"]
    assert read_record(tmp_path / "x").kind == "study"


def test_failed_runs_give_exit_code_1(asked, tmp_path):
    asked.update(kind="failed", failure=Failure(kind="error", message="why"))
    assert run("--variants", "pooling", "--seeds", "1", "--parts", "runs", "--out", str(tmp_path / "x")) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "imagenet"], "--data must name the data of scale imagenet; got nothing."),
        (["--parts", "run"], "unknown part of the study 'run'. Did you mean 'runs'?"),
        (["--parts", ","], "--parts must name at least one of runs, speed, scaling"),
        (["--variants", "poling"], "unknown variant 'poling'. Did you mean 'pooling'?"),
        (["--seeds", "x"], "seeds must be a number of seeds"),
        (["--epochs", "0"], "train.epochs must be at least 1; got 0."),
        (["--workers", "0"], "workers must be at least 1; got 0."),
        (["--execution.fast"], "--execution.fast is not for a study"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(asked, words, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        run(*words)
    assert asked["order"] == []


def test_an_unknown_measure_is_refused_by_the_parser(asked):
    with pytest.raises(UsageError, match="match"):
        run("--match", "flops")


def test_controls_that_diverge_give_exit_code_0(asked, tmp_path):
    asked.update(kind="failed", failure=Failure(kind="diverged", message="the loss became nan"))
    words = ["--seeds", "1", "--parts", "runs", "--out", str(tmp_path / "x")]
    assert run("--variants", "no_norm,no_residual", *words) == 0
    assert run("--variants", "no_norm,pooling", *words) == 1


@pytest.fixture
def real(monkeypatch):
    """Two rows and one epoch, so that all of it runs."""
    original, quick = study_paper.recipe, study_paper.SpeedConfig(num_rounds=1, seconds=0.0)

    def recipe(scale, *, data):
        study = original(scale, data="digits")
        rows = tuple(row for row in study.variants if row.name in ("pooling", "identity"))
        return replace(study, variants=rows, train=replace(study.train, epochs=1, batch_size=256))

    monkeypatch.setattr(study_paper, "recipe", recipe)
    monkeypatch.setattr(study_paper, "SpeedConfig", lambda: quick)


def variants_of(folder):
    return {row.name: row for row in read_record(folder).measured.variants}


def test_a_later_command_for_a_part_leaves_speed_and_rates_of_the_others(real, tmp_path):
    out = tmp_path / "x"
    words = ["--tune", "lr", "--tuning.factors", "2", "--parts", "runs,speed", "--out", str(out)]
    assert run(*words, "--seeds", "1") == 0
    speed, rates = (out / "speed" / "run.json").read_bytes(), variants_of(out / "tuning")
    assert run(*words, "--seeds", "2", "--variants", "identity") == 0
    assert (out / "speed" / "run.json").read_bytes() == speed
    assert variants_of(out / "tuning") == rates
    assert {path.parent.name for path in out.glob("tuned/identity/*/run.json")} == {"seed0", "seed1"}
    for folder in (out, out / "tuned"):
        assert list(variants_of(folder)) == ["pooling", "identity"]
    assert read_record(out / "tuned" / "pooling" / "seed0").config["train"]["lr"] == 0.008
