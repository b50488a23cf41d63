import re
from dataclasses import replace

import pytest

from metaformer.core.errors import DataError
from metaformer.core.records import Bench, BenchContest, BenchGrowth, BenchPeer, Recorder
from metaformer.report.charts.bar_chart import Bar, bar_chart
from metaformer.report.pages.bench_page import write_bench_page

INFERENCE = BenchContest(
    phase="inference",
    batch_size=8,
    side_px=224,
    dtype="float32",
    peers=(
        BenchPeer(name="ours, optimized", time_ms=10.0, ratio_to_ours=1.0, largest_difference=0.0),
        BenchPeer(name="timm, <eager>", time_ms=21.5, ratio_to_ours=2.15, largest_difference=2e-6),
        BenchPeer(name="OpenVINO", skipped="not installed"),
    ),
)


def bench(folder, *contests, growth=None):
    recorder = Recorder(Bench, name="poolformer_s12", config={"rounds": 10}, command="metaformer bench", seed=0)
    contests = contests or (INFERENCE,)
    recorder.result = Bench(macs=10**9, peak_gflops=None, rounds=10, contests=contests, growth=growth)
    recorder.finish().write(folder)
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
    ours = BenchPeer(name="ours, for_training", time_ms=80.0, peak_memory_mib=1234.0)
    step = BenchContest(phase="training", batch_size=16, side_px=224, dtype="float32", peers=(ours,))
    peers = (INFERENCE.peers[0], replace(INFERENCE.peers[1], share_of_peak_percent=41.0))
    growth = BenchGrowth(sides_px=(128, 256), times_ms=(10.0, 41.0), exponent=1.0123)
    page = write_bench_page(bench(tmp_path, replace(INFERENCE, peers=peers), step, growth=growth)).read_text()
    assert "Training step, batch 16, 224 px, float32" in page
    assert "Peak memory (MiB)" in page
    assert "1234" in page
    # Columns that nobody filled are left out.
    assert page.count("Peak memory (MiB)") == page.count("Of the peak (%)") == 1
    assert "to the power of 1.012" in page
    assert page.count("<polyline") == 1


def test_what_is_no_bench_is_refused(make_training):
    with pytest.raises(DataError, match="it is of kind 'training', not 'bench'"):
        write_bench_page(make_training("run"))


def test_bars_are_as_long_as_their_values():
    chart = bar_chart([Bar(name="a", value=1.0, text="1"), Bar(name="b", value=4.0, text="4")], described="x")
    short, long = (float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', chart))
    assert long == pytest.approx(4 * short, abs=0.2)
