from dataclasses import replace

import pytest

from metaformer.report.charts.draw import DRAWN
from metaformer.report.charts.points import frontier, place_labels
from metaformer.report.study.load import load_study
from metaformer.report.study.panels import study_panels
from metaformer.report.study.summary import summarize

CLASSES = [str(digit) for digit in range(10)]


def charts(rows, *, class_names=()):
    panels = study_panels(rows, class_names=class_names, scaling=None)
    return {name: DRAWN[type(panel)](panel) for name, panel in panels.items()}


@pytest.fixture
def rows(study_folder):
    return summarize(load_study(study_folder))


def test_every_chart_is_drawn(rows):
    assert list(charts(rows, class_names=CLASSES)) == [
        "difference",
        "curve-validation_accuracy_percent",
        "curve-validation_loss",
        "curve-train_loss",
        "macs",
        "params",
        "speed",
        "classes",
    ]


def test_the_main_chart_shows_each_difference_its_interval_and_the_papers(rows):
    drawn = charts(rows)["difference"]
    told, unclear, beyond, paper = drawn.data
    told, unclear = (told, unclear) if told.name.startswith("told") else (unclear, told)
    assert len(told.x) + len(unclear.x) + len(beyond.x) == 7
    assert list(unclear.x) == [row.difference for row in rows if row.verdict == "not told apart"]
    halves = [row.difference_half_width for row in rows if row.verdict in ("better", "worse")][:5]
    assert list(told.error_x.array) == pytest.approx(halves)
    assert len(paper.x) == 7
    assert drawn.layout.yaxis.ticktext[-1] == "Identity"


def test_a_control_far_away_does_not_squeeze_the_axis(rows):
    drawn = charts(rows)["difference"]
    low, high = drawn.layout.xaxis.range
    assert -8 < low < high < 8
    assert (
        next(trace for trace in drawn.data if trace.showlegend is False)
        .text[0]
        .strip()
        .startswith("\N{MINUS SIGN}69.3")
    )


def test_curves_hold_a_mean_a_band_and_each_seed(rows):
    traces = charts(rows)["curve-validation_accuracy_percent"].data
    of_conv = [trace.meta for trace in traces if trace.legendgroup == "conv"]
    assert of_conv == ["seed", "seed", "seed", "band", "mean"]
    mean = next(trace for trace in traces if trace.legendgroup == "conv" and trace.meta == "mean")
    by_seed = next(row for row in rows if row.name == "conv").curves["validation_accuracy_percent"].values()
    assert list(mean.y) == pytest.approx([sum(values) / 3 for values in zip(*by_seed, strict=True)])


def test_charts_that_the_records_cannot_fill_are_absent(rows):
    bare = [replace(row, macs=None, params=None, images_per_second=None) for row in rows]
    bare = [replace(row, curves={}, per_class_difference=None, difference=None) for row in bare]
    assert charts(bare) == {}


def test_the_pareto_line_joins_what_nothing_beats():
    points = [(1.0, 70.0), (2.0, 69.0), (3.0, 80.0), (3.0, 75.0), (4.0, 80.0)]
    assert frontier(points, more_is_better=False) == [(1.0, 70.0), (3.0, 80.0)]
    assert frontier(points, more_is_better=True) == [(4.0, 80.0)]


def test_labels_of_neighbours_do_not_share_a_side():
    chosen = place_labels([(100.0, 100.0), (100.0, 112.0)], ["first label", "second label"], bars=[0.0, 0.0])
    assert chosen[0] != chosen[1]


def test_with_many_points_only_those_on_the_line_are_named(rows):
    many = [
        replace(rows[0], name=f"r{i}", title=f"r{i}", is_base=i == 0, macs=100 + i, accuracy=80.0 - i)
        for i in range(20)
    ]
    texts = charts(many)["macs"].data[1].text
    assert [text for text in texts if text] == ["r0"]


def test_without_intervals_nothing_looks_told_apart(make_study, rows):
    bare = [replace(row, difference_half_width=None, verdict="base" if row.is_base else "no verdict") for row in rows]
    named = {trace.name for trace in charts(bare)["difference"].data if trace.name}
    assert "no verdict" in named
    assert "told apart from the base" not in named


def test_a_control_close_by_is_drawn_in_place(rows):
    near = [replace(row, difference=-6.0) if row.control else row for row in rows]
    drawn = charts(near)["difference"]
    assert -9 < drawn.layout.xaxis.range[0] < -6
    assert any(-6.0 in trace.x for trace in drawn.data[:2])
