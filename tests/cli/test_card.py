"""`metaformer card` from a user's file to the page, with a budget of one epoch."""

import importlib
import json
import sys

import pytest

from metaformer.cli.parsing import parse_and_call
from metaformer.cli.report import report
from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import read_record
from metaformer.report.pages.card_page import _cost_table, against, load_card, quote
from metaformer.study.scaling_record import ScalingConfig

card = importlib.import_module("metaformer.cli.card")

SOURCE = """
from dataclasses import dataclass
from torch import nn

@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    step: int = 1

    def build(self, site):
        return Shift(self.step)

class Shift(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x):
        return x.roll(self.step, dims=2) - x

@dataclass(frozen=True, kw_only=True)
class CropConfig:
    def build(self, site):
        return nn.MaxPool2d(2)

def make():
    @dataclass(frozen=True, kw_only=True)
    class HiddenConfig(ShiftConfig):
        pass
    return HiddenConfig

HiddenConfig = make()
"""
QUICK = ["--seeds", "2", "--train.epochs", "1", "--train.batch-size", "256", "--data", "digits"]


def run(*words):
    return parse_and_call(card.card, [str(word) for word in words], prog="metaformer card")


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    (tmp_path / "shifting.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = card.recipe()
    small = ScalingConfig(sides=(14, 28, 56), num_rounds=1, seconds=0.0)
    monkeypatch.setattr(card, "recipe", lambda: type(config)(**{**vars(config), "scaling": small}))
    yield tmp_path
    sys.modules.pop("shifting", None)


def test_from_an_empty_file_to_a_card(own_file, capsys):
    out = own_file / "card"
    assert run("shifting.py:ShiftConfig(step=2)", *QUICK, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "pass  gradients reach the input and every parameter" in printed
    record = read_record(out)
    assert (record.kind, record.name, record.measured.num_kept) == ("card", "shift", 11)
    assert record.config["mixer"]["step"] == 2
    loaded = load_card(out)
    assert [row.name for row in loaded.report.rows] == ["shift", "pooling", "depthwise_conv", "attention"]
    assert all(row.num_seeds == 2 for row in loaded.report.rows)
    line = quote(loaded)
    assert line in printed.replace("\n", " ") or line in " ".join(printed.split())
    assert line.startswith("Shift: ")
    assert "against depthwise conv" in line
    assert "11 of 11 contract checks passed." in line
    assert "0 parameters at 64 channels" in line
    # The study holds the others minus the card's mixer; the card turns them round.
    for row in loaded.report.rows[1:]:
        shown = float(against(row).split()[0].replace("\N{MINUS SIGN}", "-"))
        assert shown == pytest.approx(-row.difference, abs=0.06)
    (costs,) = _cost_table(loaded).panels
    assert [row[0] for row in costs.rows] == ["Shift", "Pooling", "Depthwise conv", "Attention"]
    assert all(isinstance(value, float) for row in costs.rows for value in row[1:7])
    page = (out / "card.html").read_text(encoding="utf-8")
    assert "Latency and memory" in page
    assert (out / "study" / "report.html").is_file()
    (out / "card.html").unlink()
    assert parse_and_call(report, [str(out)], prog="metaformer report") == 0
    assert (out / "card.html").is_file()
    assert line in " ".join(capsys.readouterr().out.split())
    # Numbers of two versions of a file do not go onto one card.
    source = own_file / "shifting.py"
    source.write_text(source.read_text().replace("dims=2", "dims=3"))
    before = (out / "run.json").read_bytes()
    with pytest.raises(ConfigError, match=r"holds the card of shift as it was before its file was edited\. Choose"):
        run("shifting.py:ShiftConfig(step=2)", *QUICK, "--out", out)
    assert (out / "run.json").read_bytes() == before


def test_a_mixer_that_changes_the_shape_is_not_trained(own_file, capsys):
    assert run("shifting:CropConfig", *QUICK, "--out", own_file / "card") == 1
    printed = capsys.readouterr().out
    assert "fail  keeps the shape on even, odd, oblong and thin grids: (2, 64, 8, 8) becomes (2, 64, 4, 4)" in printed
    assert "Nothing else was measured." in printed
    assert not (own_file / "card").exists()


def test_a_mixer_whose_config_no_run_can_get_is_not_trained(own_file, capsys):
    assert run("shifting:HiddenConfig", *QUICK, "--out", own_file / "card") == 1
    printed = capsys.readouterr().out
    assert "fail  the config comes back from JSON and from pickle" in printed
    assert "so it cannot be trained. Nothing else was measured." in printed
    assert not (own_file / "card").exists()


def test_a_known_mixer_with_other_options_stands_beside_the_plain_one(own_file, monkeypatch):
    asked = {}

    def run_study(study, **options):
        asked["study"] = study
        raise ConfigError("enough")
        yield

    monkeypatch.setattr(card, "run_study", run_study)
    with pytest.raises(ConfigError, match="enough"):
        run("pooling(pool_size=5)", *QUICK, "--out", own_file / "card")
    study = asked["study"]
    assert (study.name, study.base) == ("card-own_pooling", "own_pooling")
    assert [(row.name, row.about.title) for row in study.variants] == [
        ("own_pooling", "Pooling (pool_size=5)"),
        ("pooling", "Pooling"),
        ("depthwise_conv", "Depthwise conv"),
        ("attention", "Attention"),
    ]
    assert [row.model.token_mixers[0].pool_size for row in study.variants[:2]] == [5, 3]


def test_a_wrong_name_is_refused(own_file):
    with pytest.raises(ConfigError, match=r"shifting:ShiftConfg does not exist; .* Did you mean 'ShiftConfig'\?"):
        run("shifting:ShiftConfg", *QUICK)


def test_a_file_in_place_of_the_folder_is_refused(own_file):
    with pytest.raises(ConfigError, match=r"is a file\. Choose another --out"):
        run("pooling", *QUICK, "--out", own_file / "shifting.py")


def test_a_folder_that_is_no_card_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a card"):
        load_card(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"kind": "training"}))
    with pytest.raises(DataError, match="is not what was expected"):
        load_card(tmp_path)
