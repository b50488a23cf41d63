"""The page in Chromium: it draws, sorts, filters and changes its theme, without a word on the console."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from metaformer.report.report import report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
    *(
        f"--disable-{what}"
        for what in ("gpu", "quic", "background-networking", "component-update", "sync", "extensions")
    ),
]

# Runs after the page's own script, and leaves what it saw in the document.
PROBE = Path(__file__).with_name("probe.js").read_text(encoding="utf-8")


# Chromium has no window narrower than 500 pixels, but a frame may be.
FRAME = """<!doctype html><iframe src="probed.html" style="border: 0; width: {width}px; height: 800px"></iframe>
<script>addEventListener("message", (event) => {{
  document.body.appendChild(document.createElement("pre")).id = "seen";
  document.getElementById("seen").textContent = event.data;
}});</script>"""


def open_page(target, profile, *, address="", width=1200, frame_px=None):
    """What the probe saw, and what the console said."""
    probed = target.with_name("probed.html")
    probed.write_text(
        target.read_text(encoding="utf-8").replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8"
    )
    opened = probed
    if frame_px is not None:
        opened = target.with_name("frame.html")
        opened.write_text(FRAME.format(width=frame_px), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run(
        [*command, f"{opened.as_uri()}{address}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        check=False,
    )
    found = re.search(r'<pre id="seen">([^<]*)</pre>', done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert found, (console, done.stderr[-2000:])
    return json.loads(base64.b64decode(found[1])), console


def test_the_page_works(study_folder, tmp_path):
    shutil.rmtree(study_folder / "mlp")
    seen, console = open_page(
        report(study_folder).page, tmp_path / "profile", address="#sort=macs:ascending&filter=pooling"
    )
    assert console == []
    assert seen["ready"] == "yes"
    assert seen["filtered_by_address"] == "pooling"
    # By MACs, of those with "pooling" in their text; the one without runs is last.
    assert seen["first"] == ["no_mlp", "pooling", "batch_norm", "hybrid", "mlp"]
    assert seen["down"] == [
        "descending",
        ["conv", "hybrid", "batch_norm", "pooling", "random", "identity", "no_mlp", "mlp"],
    ]
    # A row without a number is last in both directions.
    assert seen["up"] == [
        "ascending",
        "none",
        ["no_mlp", "identity", "random", "pooling", "batch_norm", "hybrid", "conv", "mlp"],
    ]
    assert seen["paper"][:2] == ["hybrid", "conv"]
    assert seen["filtered"] == [["hybrid"], "1 of 8"]
    assert len(seen["charts"]) == 6
    assert all(seen["charts"])
    assert seen["theme"][0] != seen["other_theme"][0]
    assert seen["theme"][1] != seen["other_theme"][1]
    assert set(seen["seeds"]) == {"mean", "seed"}
    assert seen["curve"] == "Training loss (nats)"
    assert "Identity" in seen["hover"]
    assert "points" in seen["hover"]
    assert seen["overflow"] <= 0


def test_hostile_titles_run_nothing_on_a_narrow_screen(study_folder, tmp_path):
    path = study_folder / "run.json"
    run = json.loads(path.read_text())
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)><a href='javascript:alert(3)'>x</a>"
    for variant in run["result"]["variants"]:
        variant["title"] += hostile
        variant["paper_note"] = hostile
    run["result"]["data"]["title"] = hostile
    path.write_text(json.dumps(run))
    seen, console = open_page(report(study_folder).page, tmp_path / "profile", frame_px=360)
    assert console == []
    assert all(seen["charts"])
    assert seen["width"] == 360
    assert seen["overflow"] <= 0


def test_the_page_prints(study_folder, tmp_path):
    target = tmp_path / "page.pdf"
    flags = [*FLAGS, f"--user-data-dir={tmp_path}/profile", f"--print-to-pdf={target}", "--no-pdf-header-footer"]
    done = subprocess.run(
        [CHROMIUM, *flags, report(study_folder).page.as_uri()],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert "CONSOLE" not in done.stderr
    content = target.read_bytes()
    assert content.startswith(b"%PDF")
    # All of it, and no chart that takes pages for itself.
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12


@pytest.mark.slow
@pytest.mark.skipif(os.getloadavg()[0] > (os.cpu_count() or 1) / 2, reason="the machine is busy: nothing to time")
def test_a_study_of_a_hundred_runs_opens_within_two_seconds(make_study, tmp_path):
    rows = [
        (f"row{index}", f"Row {index}", ["pooling"] * 4, 70.0, 70.0 + index, 1000 + index, 1e6 + index, 900, False)
        for index in range(20)
    ]
    folder = make_study(rows=rows, num_seeds=5)
    record = json.loads((folder / "run.json").read_text())
    record["result"]["base"] = "row0"
    (folder / "run.json").write_text(json.dumps(record))
    target = report(folder).page
    text = target.read_text(encoding="utf-8")
    # After the page's own script, which has drawn the first screen. Without virtual time: the clock is a real one.
    clock = """<script>
        if (!document.querySelector("#chart-difference svg.main-svg")) throw new Error("no first chart");
        document.body.append(`ready after ${Math.round(performance.now())} ms`);
    </script></body>"""
    target.write_text(text.replace("</body>", clock), encoding="utf-8")
    flags = [flag for flag in FLAGS if not flag.startswith("--virtual-time")]
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path}/profile", "--window-size=1200,900", "--dump-dom"]
    done = subprocess.run(
        [*command, target.as_uri()], capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
    )
    found = re.search(r"ready after (\d+) ms", done.stdout.rpartition("</script>")[2])
    assert found, done.stderr[-2000:]
    assert int(found[1]) < 2000
