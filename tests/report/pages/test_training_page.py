import json
import re

import pytest

from metaformer.core.errors import DataError
from metaformer.report.report import report


def charts_of(page):
    return json.loads(re.search(r'id="data-charts">(.*?)</script>', page)[1])


def test_the_page_shows_the_numbers_and_escapes_names(make_training):
    page = report(make_training("a")).page.read_text()
    assert "81.25" in page
    assert "3 min 0 s" in page
    assert "pooling &lt;3&gt;" in page
    assert "<3>" not in page.partition('<script id="plotly-js">')[0]
    assert len(charts_of(page)) == 3


def test_two_runs_stand_side_by_side_with_what_differs(make_training, tmp_path):
    folders = [make_training("a"), make_training("b", "identity", lr=0.2)]
    path = report(folders[0], folders[1:]).page
    # The first one's own page stays.
    assert path == tmp_path / "a" / "report-with-b.html"
    page = path.read_text()
    accuracy, _, rate = charts_of(page).values()
    assert [trace["name"] for trace in accuracy["data"]] == ["pooling &lt;3&gt;", "identity"]
    assert accuracy["data"][0]["x"] == [1.0, 2.0, 3.0]
    assert accuracy["data"][0]["y"] == [40.0, 60.0, 80.5]
    assert rate["layout"]["yaxis"]["title"]["text"] == "Learning rate"
    assert "train.lr</th>" in page
    assert "train.epochs</th>" not in page


def test_a_training_is_not_compared_with_itself(make_training, tmp_path):
    folder = make_training("a")
    with pytest.raises(DataError, match="is compared with itself"):
        report(folder, [tmp_path / "b" / ".." / "a"])


def test_what_is_no_training_does_not_stand_beside_one(study_folder, make_training):
    with pytest.raises(DataError, match="of kind 'study', not 'training'"):
        report(make_training("a"), [study_folder])
