"""One page for a bench: who takes how long, contest by contest."""

from pathlib import Path

from markupsafe import Markup

from metaformer.core.atomic_write import write_text
from metaformer.core.configs import to_dict
from metaformer.core.records import Bench, BenchContest, BenchGrowth, BenchPeer, read_record
from metaformer.report.charts.bar_chart import Bar, bar_chart
from metaformer.report.charts.line_chart import Line, line_chart
from metaformer.report.number_text import NOTHING, plain
from metaformer.report.pages.study_page import PAGE_FILE, asset, environment

OURS = "ours, "
# Field of a peer -> a column's title, and the digits of its numbers (None: a power of ten).
COLUMNS = {
    "time_ms": ("ms an image", 2),
    "spread_percent": ("Spread (%)", 1),
    "ratio_to_ours": ("Times ours", 2),
    "share_of_peak_percent": ("Of the peak (%)", 0),
    "peak_memory_mib": ("Peak memory (MiB)", 0),
    "largest_difference": ("Largest difference", None),
}
TITLES = {"inference": "Inference", "training": "Training step"}


def write_bench_page(folder: Path) -> Path:
    """Writes the page of a bench into its folder.

    Raises:
        DataError: The folder holds no bench.
    """
    record = read_record(folder, Bench)
    bench = record.measured
    text = (
        environment()
        .get_template("bench.html.j2")
        .render(
            css=asset("page.css"),
            name=record.name,
            contests=[_shown(contest) for contest in bench.contests],
            scaling=_scaling(bench.growth, record.name) if bench.growth else None,
            exponent=bench.growth.exponent if bench.growth else None,
            peak=bench.peak_gflops,
            rounds=bench.rounds,
            command=record.command,
            machine=to_dict(record.machine),
            versions=record.versions,
        )
    )
    target = Path(folder) / PAGE_FILE
    write_text(target, text)
    return target


def _shown(contest: BenchContest) -> dict[str, object]:
    timed = [(peer.time_ms, peer) for peer in contest.peers if peer.time_ms is not None]
    bars = [
        Bar(
            name=peer.name,
            value=time_ms,
            text=f"{time_ms:.1f} ms" + _times(peer.ratio_to_ours, peer.name),
            is_ours=peer.name.startswith(OURS),
        )
        for time_ms, peer in sorted(timed, key=lambda one: one[0])
    ]
    shown = [what for what in COLUMNS if any(getattr(peer, what) is not None for _, peer in timed)]
    title = f"{TITLES[contest.phase]}, batch {contest.batch_size}, {contest.side_px} px, {contest.dtype}"
    return {
        "title": title,
        "chart": Markup(bar_chart(bars, described=f"Milliseconds an image. {title}.")) if bars else "",
        "columns": [COLUMNS[what][0] for what in shown],
        "rows": [(peer.name, [_number(peer, what) for what in shown]) for _, peer in timed],
        "skipped": {peer.name: peer.skipped for peer in contest.peers if peer.skipped is not None},
    }


def _times(ratio: float | None, peer: str) -> str:
    return "" if ratio is None or (ratio == 1 and peer.startswith(OURS)) else f", {ratio:.2f}x"


def _number(peer: BenchPeer, what: str) -> str:
    value, digits = getattr(peer, what), COLUMNS[what][1]
    if value is None:
        return NOTHING
    if digits is not None:
        return plain(value, digits)
    return f"{value:.0e}" if value else "0"


def _scaling(growth: BenchGrowth, name: str) -> Markup:
    """Time of one image against its tokens, at equal steps of a factor where both are powers."""
    line = Line(name=name, x=[side * side / 1e6 for side in growth.sides_px], y=list(growth.times_ms))
    titles = {"x_title": "megapixels", "y_title": "ms an image"}
    return Markup(line_chart([line], **titles, described="Time of one image against its pixels."))
