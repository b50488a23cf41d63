import csv

import pytest

from metaformer.core.errors import ConfigError, DataError
from metaformer.report.pages import export_files
from metaformer.report.report import report


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_table_and_epochs_as_files(make_training, tmp_path, monkeypatch):
    monkeypatch.setattr(export_files, "BROWSERS", ("no-such-browser",))
    folders = [make_training("a"), make_training("b", "identity", lr=0.2), make_training("c", "random|matrix")]
    made = report(folders[0], folders[1:], export=tmp_path / "out")
    assert made.why_no_pictures.startswith("SVG and PNG need a browser")
    assert {path.name for path in made.files} == {path.name for path in (tmp_path / "out").iterdir()}
    assert [row["Test (%)"] for row in read(tmp_path / "out" / "trainings.csv")] == ["81.25"] * 3
    epochs = read(tmp_path / "out" / "epochs.csv")
    assert [(row["run"], row["epoch"], row["train_loss"]) for row in epochs[:4]] == [
        ("pooling <3>", "1", "2.0"),
        ("pooling <3>", "2", "1.5"),
        ("pooling <3>", "3", "1.0"),
        ("identity", "1", "2.0"),
    ]
    assert "random\\|matrix" in (tmp_path / "out" / "trainings.md").read_text()


def test_a_folder_that_cannot_be_written(make_training, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--export must be a folder; .*file is a file"):
        report(make_training("a"), export=tmp_path / "file")
    with pytest.raises(DataError, match=r"^cannot write into .*out: "):
        report(make_training("b"), export=tmp_path / "file" / "out")
