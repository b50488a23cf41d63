"""`metaformer report` on records of real, tiny studies."""

import json
import shutil
from dataclasses import replace

import pytest

from metaformer.cli.parsing import parse_and_call
from metaformer.cli.report import report
from metaformer.core.errors import ConfigError, DataError
from metaformer.recipes.study_quick import study_quick
from metaformer.study.runner import run_study
from metaformer.train.config import TrainConfig


def run(*words):
    return parse_and_call(report, [str(word) for word in words], prog="metaformer report")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "one"
    study = replace(study_quick(), data="digits", train=TrainConfig(epochs=1, batch_size=256), seeds=(0,))
    list(run_study(study, out=out, command="metaformer test", variants=("pooling", "identity")))
    return out


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "one")
    return tmp_path / "one"


def test_one_study(folder, capsys):
    assert run(folder) == 0
    assert (folder / "report.html").is_file()
    assert "Identity" in capsys.readouterr().out


def test_two_studies_on_one_page(folder, tmp_path, capsys):
    other = tmp_path / "two"
    shutil.copytree(folder, other)
    for path in other.glob("identity/*/run.json"):
        values = json.loads(path.read_text())
        values["config"]["train"]["lr"] = 0.5
        path.write_text(json.dumps(values))
    assert run(folder, other) == 0
    assert (folder / "report-with-two.html").is_file()
    assert "Identity (two)" in " ".join(capsys.readouterr().out.split())


def test_exports_land_in_their_folder_and_missing_pictures_are_explained(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("metaformer.report.pages.export_files.BROWSERS", ("no-such-browser",))
    assert run(folder, "--export", tmp_path / "out") == 1
    assert {"table.csv", "table.md", "table.tex"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "no pictures: SVG and PNG need a browser" in capsys.readouterr().out


def test_a_file_in_place_of_the_export_folder_is_refused(folder):
    with pytest.raises(ConfigError, match=r"^--export must be a folder; .*run\.json is a file\.$"):
        run(folder, "--export", folder / "run.json")


@pytest.mark.parametrize("wrong", ["nowhere", "one/pooling"])
def test_a_folder_that_is_no_study_is_refused(folder, tmp_path, wrong):
    for words in ([tmp_path / wrong], [folder, tmp_path / wrong]):
        with pytest.raises(DataError, match=r"is not a folder|is not a study"):
            run(*words)


def test_a_study_is_not_compared_with_itself(folder):
    with pytest.raises(DataError, match="is compared with itself"):
        run(folder, folder)


def test_any_number_of_trainings_on_one_page(make_training, tmp_path, capsys):
    folders = [make_training(name, name) for name in "abc"]
    assert run(*folders, "--export", tmp_path / "out") == 0
    assert (folders[0] / "report-with-b-c.html").is_file()
    assert (tmp_path / "out" / "validation-accuracy.svg").is_file()
    assert len(list((tmp_path / "out").glob("*.svg"))) == 3
    assert "9 files in" in capsys.readouterr().out


def test_three_studies_are_refused(folder):
    with pytest.raises(ConfigError, match=r"^studies are compared two at a time; got 3 folders\.$"):
        run(folder, folder, folder)
