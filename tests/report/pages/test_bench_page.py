import re

import pytest

from metaformer.core.errors import DataError
from metaformer.core.machine import provenance
from metaformer.core.run_record import Metric, RunRecord
from metaformer.report.charts.bar_chart import Bar, bar_chart
from metaformer.report.pages.bench_page import write_bench_page

PLACE = "inference/batch 8/224 px/float32"


def bench(folder, *, kind="bench", **more):
    times = {"ours, optimized": (10.0, 1.0), "timm, <eager>": (21.5, 2.15)}
    metrics = {f"{PLACE}/{peer}/time": Metric(value=time, unit="ms/image") for peer, (time, _) in times.items()}
    metrics |= {
        f"{PLACE}/{peer}/ratio_to_ours": Metric(value=ratio, unit="times") for peer, (_, ratio) in times.items()
    }
    metrics[f"{PLACE}/timm, <eager>/largest_difference"] = Metric(value=2e-6, unit="of the largest score")
    metrics[f"{PLACE}/ours, optimized/largest_difference"] = Metric(value=0.0, unit="of the largest score")
    metrics |= {name.replace("__", "/"): Metric(value=value, unit="") for name, value in more.items()}
    RunRecord(
        kind=kind,
        name="poolformer_s12",
        command="metaformer bench",
        config={"rounds": 10},
        seed=0,
        metrics=metrics,
        labels={"skipped": {f"{PLACE}/OpenVINO": "not installed"}},
        **provenance(),
        wall_time_s=1.0,
    ).write(folder)
    return folder


def test_the_page_shows_bars_numbers_and_who_is_missing(tmp_path):
    page = write_bench_page(bench(tmp_path)).read_text()
    assert "Inference, batch 8, 224 px, float32" in page
    assert "21.5 ms, 2.15x" in page
    assert "2e-06" in page
    assert '<td class="number">0</td>' in page
    assert "Not timed: OpenVINO: not installed" in page
    assert "timm, &lt;eager&gt;" in page
    assert "<eager>" not in page
    assert "http" not in re.sub(r'xmlns="[^"]*"|http-equiv', "", page)


def test_the_fastest_stands_first(tmp_path):
    page = write_bench_page(bench(tmp_path)).read_text()
    chart = page[page.index("<svg") : page.index("</svg>")]
    assert chart.index("ours, optimized") < chart.index("timm")


def test_memory_of_training_and_growth_are_shown(tmp_path):
    step = "training__batch 16__224 px__float32__ours, for_training"
    numbers = {f"{step}__time": 80.0, f"{step}__peak_memory": 1234.0, "cost_exponent": 1.0123}
    numbers[f"{PLACE}__timm, <eager>__share_of_peak".replace("/", "__")] = 41.0
    growth = {"scaling__128 px__time": 10.0, "scaling__256 px__time": 41.0}
    page = write_bench_page(bench(tmp_path, **numbers, **growth)).read_text()
    assert "Training step, batch 16, 224 px, float32" in page
    assert "Peak memory (MiB)" in page
    assert "1234" in page
    # Columns that nobody filled are left out.
    assert page.count("Peak memory (MiB)") == page.count("Of the peak (%)") == 1
    assert "to the power of 1.012" in page
    assert page.count("<polyline") == 1


def test_what_is_no_bench_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no bench; its record is of kind 'train'"):
        write_bench_page(bench(tmp_path, kind="train"))


def test_bars_are_as_long_as_their_values():
    chart = bar_chart([Bar(name="a", value=1.0, text="1"), Bar(name="b", value=4.0, text="4")], described="x")
    short, long = (float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', chart))
    assert long == pytest.approx(4 * short, abs=0.2)
