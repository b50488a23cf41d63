import pytest

from metaformer.core.configs import from_dict, to_dict
from metaformer.core.measurement import (
    Axis,
    Curve,
    Curves,
    Heatmap,
    Histogram,
    Image,
    Images,
    Mark,
    Measurement,
    Panel,
    Point,
    Points,
    Surface,
    Table,
    numbers,
)

X, Y = Axis(title="tokens", scale="log"), Axis(title="time (ms)")
PANELS = (
    Curves(
        title="c", x=X, y=Y, curves=(Curve(name="a", x=(1.0, 2.0), y=(3.0, None), low=(2.0, None), high=(4.0, None)),)
    ),
    Points(
        title="p",
        x=X,
        y=Axis(title="", categories=("a",)),
        points=(Point(name="a", x=1.0, y=0.0, marks=(Mark(x=2.0, text="paper"),)),),
    ),
    Heatmap(title="h", x=X, y=Y, values=((0.0, None), (1.0, 2.0))),
    Surface(title="s", x_axis=X, y_axis=Y, x=(0.0, 1.0), y=(0.0,), values=((1.0, 2.0),)),
    Histogram(title="b", x=X, y=Y, edges=(0.0, 1.0, 2.0), heights=((1.0, 3.0),), names=("a",)),
    Images(title="i", images=(Image(name="a", png_base64=""),), num_columns=1),
    Table(title="t", columns=("a", "b"), rows=(("x", 1.5), (None, 2.0)), digits=(1, 3)),
)


def test_a_measurement_comes_back_from_json():
    one = Measurement(name="m", question="q?", finding="f.", panels=PANELS, source="Eq. 1", numbers={"rate": 0.5})
    assert from_dict(Measurement, to_dict(one)) == one


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: type(panel).__name__)
def test_each_kind_is_a_panel(panel):
    assert isinstance(panel, Panel)


def test_what_is_not_finite_is_a_gap():
    assert numbers([1.0, None, float("nan"), float("inf")]) == (1.0, None, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Curve(name="a", x=(1.0,), y=()),
        lambda: Curve(name="a", x=(1.0,), y=(1.0,), low=(1.0, 2.0)),
        lambda: Heatmap(title="h", x=X, y=Y, values=((1.0,), ())),
        lambda: Surface(title="s", x_axis=X, y_axis=Y, x=(0.0,), y=(0.0,), values=((1.0, 2.0),)),
        lambda: Histogram(title="b", x=X, y=Y, edges=(0.0, 1.0), heights=((1.0, 3.0),), names=("a",)),
        lambda: Table(title="t", columns=("a",), rows=(("x", 1.0),)),
        lambda: Table(title="t", columns=("a",), rows=(("x",),), digits=(1, 2)),
    ],
)
def test_panels_whose_parts_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must have|needs|must be given"):
        wrong()
