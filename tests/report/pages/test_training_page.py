import re

import pytest

from metaformer.core.errors import DataError
from metaformer.report.charts.line_chart import Line, line_chart, ticks
from metaformer.report.pages.training_page import write_training_page


def test_the_page_shows_the_numbers_and_escapes_names(make_training):
    page = write_training_page([make_training("a")]).read_text()
    assert "81.25" in page
    assert "3 min 0 s" in page
    assert "pooling &lt;3&gt;" in page
    assert "<3>" not in page
    assert page.count("<polyline") == 3
    assert "http" not in re.sub(r'xmlns="[^"]*"|http-equiv', "", page)


def test_two_runs_stand_side_by_side_with_what_differs(make_training, tmp_path):
    folders = [make_training("a"), make_training("b", "identity", lr=0.2)]
    path = write_training_page(folders)
    # The first one's own page stays.
    assert path == tmp_path / "a" / "report-with-b.html"
    page = path.read_text()
    assert page.count("<polyline") == 6
    assert "<code>train.lr</code>" in page
    assert "<code>train.epochs</code>" not in page


def test_a_training_is_not_compared_with_itself(make_training, tmp_path):
    folder = make_training("a")
    with pytest.raises(DataError, match="is compared with itself"):
        write_training_page([folder, tmp_path / "b" / ".." / "a"])


def test_what_is_no_training_is_refused(study_folder):
    with pytest.raises(DataError, match="of kind 'study', not 'training'"):
        write_training_page([study_folder])


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
        assert 28 <= float(y) <= 324
