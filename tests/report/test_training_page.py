import re

import pytest

from metaformer.core.errors import DataError
from metaformer.core.machine import provenance
from metaformer.core.run_record import Metric, RunRecord
from metaformer.report.line_chart import Line, line_chart, ticks
from metaformer.report.training_page import write_training_page


def training(folder, name="pooling <3>", *, lr=0.1, kind="train"):
    RunRecord(
        kind=kind,
        name=name,
        command=f"metaformer train cifar10-small --out {folder.name}",
        config={"name": name, "train": {"lr": lr, "epochs": 3}},
        seed=0,
        metrics={"test_accuracy": Metric(value=81.25, unit="%"), "validation_accuracy": Metric(value=80.5, unit="%")},
        history={
            "epoch": [1.0, 2.0, 3.0],
            "seconds": [60.0, 120.0, 180.0],
            "validation_accuracy": [40.0, 60.0, 80.5],
            "train_loss": [2.0, 1.5, 1.0],
            "learning_rate": [0.1, 0.05, 0.0],
        },
        **provenance(),
        wall_time_s=180.0,
    ).write(folder)
    return folder


def test_the_page_shows_the_numbers_and_escapes_names(tmp_path):
    page = write_training_page([training(tmp_path / "a")]).read_text()
    assert "81.25" in page
    assert "3 min 0 s" in page
    assert "pooling &lt;3&gt;" in page
    assert "<3>" not in page
    assert page.count("<polyline") == 3
    assert "http" not in re.sub(r'xmlns="[^"]*"|http-equiv', "", page)


def test_two_runs_stand_side_by_side_with_what_differs(tmp_path):
    folders = [training(tmp_path / "a"), training(tmp_path / "b", "identity", lr=0.2)]
    page = write_training_page(folders).read_text()
    assert page.count("<polyline") == 6
    assert "<code>train.lr</code>" in page
    assert "<code>train.epochs</code>" not in page


def test_what_is_no_training_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no finished training"):
        write_training_page([training(tmp_path / "a", kind="study")])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (37.2, 89.9), (0, 0.004), (-3, 3), (5, 5), (0, 0), (1e6, 3e6)], ids=str
)
def test_ticks_are_few_and_cover_the_range(low, high):
    found = ticks(float(low), float(high))
    assert 1 <= len(found) <= 9
    assert found[0] <= low + 1e-9
    assert found == sorted(set(found))
    assert found[-1] <= max(high, low) + 1e-9 or len(found) == 1


def test_points_lie_inside_the_frame():
    svg = line_chart([Line(name="a", x=[1.0, 7.7], y=[13.0, 99.9])], x_title="x", y_title="y", described="d")
    for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg):
        assert 64 <= float(x) <= 740
        assert 16 <= float(y) <= 324
