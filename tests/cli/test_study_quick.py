"""`metaformer study quick` between its options and the study, without training anything."""

import importlib

import pytest

from metaformer.cli.main import run
from metaformer.core.records import Failure
from metaformer.study.event import StudyEvent

# The function has the name of its module.
study_quick = importlib.import_module("metaformer.cli.study_quick")


@pytest.fixture
def asked(monkeypatch):
    """What the library would have been asked; every run of it ends as `kind` says."""
    calls = {"kind": "finished"}

    def run_study(study, **options):
        calls.update(options, study=study)
        failure = Failure(kind="error", message="why")
        from metaformer.study.config import choose_variants
        from metaformer.study.folder import plan

        names = options["variants"] or tuple(variant.name for variant in study.variants)
        chosen = {variant.name for variant in choose_variants(study, names)}
        for one in plan(study):
            if one.name in chosen:
                yield StudyEvent(kind="started", run=one)
                yield StudyEvent(kind=calls["kind"], run=one, failure=failure if calls["kind"] == "failed" else None)

    monkeypatch.setattr(study_quick, "run_study", run_study)
    monkeypatch.setattr(study_quick, "report", lambda out: out)
    monkeypatch.setattr(study_quick, "show_report", lambda console, out: calls.update(reported=out))
    return calls


def test_options_reach_the_study(asked, tmp_path, capsys):
    words = ["--train.epochs", "7", "--train.lr", "0.1", "--seeds", "4,2", "--data", "digits", "--workers", "3"]
    assert run(["study", "quick", *words, "--variants", "identity, pooling", "--out", str(tmp_path)]) == 0
    study = asked["study"]
    assert (study.train.epochs, study.train.lr, study.train.batch_size) == (7, 0.1, 32)
    assert (study.seeds, study.data) == ((4, 2), "digits")
    assert asked["variants"] == ("identity", "pooling")
    assert asked["num_workers"] == 3
    assert asked["out"] == asked["reported"] == tmp_path
    assert capsys.readouterr().out.count("\n") == 4


def test_without_options_it_is_the_recipe(asked):
    assert run(["study", "quick"]) == 0
    assert asked["study"] == study_quick.recipe()
    assert str(asked["out"]) == "runs/quick"
    assert asked["variants"] == ()
    assert asked["num_workers"] is None


def test_failed_runs_are_reported_and_the_exit_code_is_1(asked, capsys):
    asked["kind"] = "failed"
    assert run(["study", "quick", "--variants", "pooling", "--seeds", "1"]) == 1
    assert "reported" in asked
    assert capsys.readouterr().out == "[1/1] pooling, seed 0: failed: why\n"


def test_a_variant_named_twice_counts_once(asked, capsys):
    assert run(["study", "quick", "--variants", "pooling,pooling", "--seeds", "1"]) == 0
    assert capsys.readouterr().out.startswith("[1/1] pooling, seed 0:")
