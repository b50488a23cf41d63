import csv

import pytest

from metaformer.core.errors import DataError
from metaformer.report.pages.training_export import export_trainings


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_curves_table_and_epochs_as_files(make_training, tmp_path):
    folders = [make_training("a"), make_training("b", "identity", lr=0.2), make_training("c", "random|matrix")]
    files = export_trainings(folders, tmp_path / "out")
    assert {path.name for path in files} == {path.name for path in (tmp_path / "out").iterdir()}
    svg = (tmp_path / "out" / "validation-accuracy-percent.svg").read_text()
    assert svg.count("<polyline") == 3
    # No page stands around it that could say what a variable is.
    assert "var(" not in svg
    assert 'fill="#fff"' in svg
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
    with pytest.raises(DataError, match=r"^cannot write into .*file: "):
        export_trainings([make_training("a")], tmp_path / "file")
