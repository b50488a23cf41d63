import json
import re
from dataclasses import replace

from metaformer.core.records import Bench, BenchContest, BenchGrowth, BenchPeer, Recorder
from metaformer.report.report import report

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


def charts_of(page):
    return json.loads(re.search(r'id="data-charts">(.*?)</script>', page)[1])


def test_the_page_shows_bars_numbers_and_who_is_missing(tmp_path):
    page = report(bench(tmp_path)).page.read_text()
    assert "Inference, batch 8, 224 px, float32" in page
    (chart,) = charts_of(page).values()
    bars = chart["data"][0]
    # The fastest stands first, which is the highest place.
    assert dict(zip(bars["x"], bars["y"], strict=True)) == {10.0: 1.0, 21.5: 0.0}
    assert [note["text"] for note in chart["layout"]["annotations"]] == ["10.0 ms", "21.5 ms, 2.15x"]
    assert "2e-06" in page
    assert '<td class="number">0</td>' in page
    assert "Not timed: OpenVINO: not installed" in page
    assert "timm, &lt;eager&gt;" in page
    assert "<eager>" not in page


def test_memory_of_training_and_growth_are_shown(tmp_path):
    ours = BenchPeer(name="ours, for_training", time_ms=80.0, peak_memory_mib=1234.0)
    step = BenchContest(phase="training", batch_size=16, side_px=224, dtype="float32", peers=(ours,))
    peers = (INFERENCE.peers[0], replace(INFERENCE.peers[1], share_of_peak_percent=41.0))
    growth = BenchGrowth(sides_px=(128, 256), times_ms=(10.0, 41.0), exponent=1.0123)
    page = report(bench(tmp_path, replace(INFERENCE, peers=peers), step, growth=growth)).page.read_text()
    assert "Training step, batch 16, 224 px, float32" in page
    assert "1,234" in page
    # Columns that nobody filled are left out.
    assert page.count("Peak memory (MiB)") == page.count("Of the peak (%)") == 1
    assert "to the power of 1.012" in page
    assert len(charts_of(page)) == 3
