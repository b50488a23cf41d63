import base64
import json
import re

import pytest

from metaformer.core.measurement import (
    Axis,
    Curve,
    Curves,
    Heatmap,
    Histogram,
    Image,
    Images,
    Line,
    Measurement,
    Point,
    Points,
    Surface,
    Table,
)
from metaformer.core.records import Analysis, Evaluation, Recorder, Skipped
from metaformer.report.report import report

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode()
X, Y = Axis(title="depth"), Axis(title="similarity", scale="log")
NAMED = Axis(title="block", categories=("a", "<b>"))
PANELS = (
    Curves(
        title="Curves",
        x=X,
        y=Y,
        curves=(
            Curve(name="m", x=(1.0, 2.0, 3.0), y=(0.1, None, 0.3), low=(0.0, 0.1, 0.2), high=(0.2, 0.3, 0.4)),
            Curve(name="m, one", x=(1.0, 2.0), y=(0.1, 0.2), group="m", role="member"),
            Curve(name="theory", x=(1.0, 2.0), y=(0.1, 0.2), role="reference", is_base=True),
        ),
        lines=(Line(at=0.5, text="half"),),
        caption="What a curve says.",
    ),
    Points(title="Points", x=X, y=X, points=(Point(name="p", x=1.0, y=2.0, y_low=1.5, y_high=2.5, text="p"),)),
    Points(title="Rows", x=X, y=NAMED, points=(Point(name="a", x=1.0, y=0.0, text="1\nsure"),)),
    Points(title="Bars", x=X, y=NAMED, points=(Point(name="a", x=1.0, y=0.0, text="1"),), style="bars"),
    Heatmap(title="Heat", x=NAMED, y=NAMED, values=((1.0, None), (-1.0, 0.5)), unit="points", diverging=True),
    Surface(title="Loss", x_axis=X, y_axis=X, x=(0.0, 1.0), y=(0.0, 1.0), values=((1.0, 2.0), (3.0, None))),
    Histogram(title="Hist", x=X, y=X, edges=(0.0, 1.0, 2.0), heights=((1.0, 2.0), (2.0, None)), names=("a", "b")),
    Images(title="Maps", images=(Image(name="cat", png_base64=PNG), Image(name="odd", png_base64="x")), num_columns=2),
    Table(title="Tab", columns=("who", "ms"), rows=(("<i>me</i>", 1234.5), ("you", None)), digits=(1, 3)),
)


def write(folder, result):
    recorder = Recorder(type(result), name="thing", config={}, command="metaformer analyze", seed=None)
    recorder.result = result
    recorder.finish().write(folder)
    return folder


@pytest.fixture
def page(tmp_path):
    measured = Measurement(name="all", question="What is <it>?", finding="This.", panels=PANELS, source="A paper.")
    skipped = (Skipped(probe="cam", reason="no attention"),)
    analysis = Analysis(models=("m",), data="digits", num_images=9, measurements=(measured,), skipped=skipped)
    return report(write(tmp_path, analysis)).page.read_text()


def test_every_kind_of_panel_is_drawn_without_knowing_what_it_is_about(page):
    charts = json.loads(re.search(r'id="data-charts">(.*?)</script>', page)[1])
    assert list(charts) == [f"panel-1-{number}" for number in range(1, 8)]
    assert [one["data"][0]["type"] for one in charts.values()] == [
        "scatter", "scatter", "scatter", "bar", "heatmap", "surface", "bar"
    ]  # fmt: skip
    for one in charts:
        assert f'data-chart="{one}"' in page
    assert page.count(f"data:image/png;base64,{PNG}") == 1
    assert "1,234" in page
    assert "What a curve says." in page
    assert "no attention" in page


def test_what_a_measurement_says_stays_text(page):
    head = page.partition('<script type="application/json" id="data-charts">')[0]
    assert "What is &lt;it&gt;?" in head
    assert "&lt;i&gt;me&lt;/i&gt;" in head
    assert "<i>" not in head
    assert "http" not in re.sub(r'href="https://arxiv.org[^"]*"|http-equiv', "", head)


def test_a_record_without_measurements_has_a_page_of_its_numbers(tmp_path):
    evaluation = Evaluation(
        top1_percent=91.5, loss=0.25, num_images=10, images_per_second=100.0, model_images_per_second=200.0
    )
    page = report(write(tmp_path, evaluation)).page.read_text()
    assert "Top1 (%)" in page
    assert "91.5" in page
    assert "plotly-js" not in page
