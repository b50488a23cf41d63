"""A bench as a page: who takes how long, contest by contest."""

from metaformer.core.measurement import Axis, Curve, Curves, Measurement, Point, Points, Table, numbers
from metaformer.core.records import Bench, BenchContest, BenchGrowth, BenchPeer, Record
from metaformer.report.pages.record_page import RecordPage

OURS = "ours, "
# Field of a peer -> a column's title, and the significant digits of its numbers.
COLUMNS = {
    "time_ms": ("ms an image", 4),
    "spread_percent": ("Spread (%)", 2),
    "ratio_to_ours": ("Times ours", 3),
    "share_of_peak_percent": ("Of the peak (%)", 2),
    "peak_memory_mib": ("Peak memory (MiB)", 4),
    "largest_difference": ("Largest difference", 1),
}
TITLES = {"inference": "Inference", "training": "Training step"}


def bench_page(record: Record[Bench]) -> RecordPage:
    """Bars and a table for each contest, and the growth of time with the image."""
    bench = record.measured
    peak = (
        f" The machine's multiply-add peak in float32 was measured at {bench.peak_gflops:.0f} GFLOP/s."
        if bench.peak_gflops
        else ""
    )
    measured = [_contest(one) for one in bench.contests]
    measured += [_growth(bench.growth, record.name)] if bench.growth else []
    return RecordPage(
        title=f"{record.name}: who takes how long",
        kind=record.kind,
        intro=f"Medians of {bench.rounds} rounds in which all take their turns; a ratio is the median over rounds of a "
        f"time divided by ours. Each output was compared with the plain model in float32 before it was timed.{peak}",
        measurements=tuple(measured),
        records={"": record},
    )


def _contest(contest: BenchContest) -> Measurement:
    title = f"{TITLES[contest.phase]}, batch {contest.batch_size}, {contest.side_px} px, {contest.dtype}"
    timed = [(peer.time_ms, peer) for peer in contest.peers if peer.time_ms is not None]
    fastest = sorted(timed, key=lambda one: one[0])
    skipped = [f"{peer.name}: {peer.skipped}" for peer in contest.peers if peer.skipped is not None]
    shown = [what for what in COLUMNS if any(getattr(peer, what) is not None for _, peer in timed)]
    bars = Points(
        title=title,
        x=Axis(title="milliseconds an image"),
        y=Axis(title="", categories=tuple(peer.name for _, peer in fastest)),
        points=tuple(_bar(time_ms, peer, index) for index, (time_ms, peer) in enumerate(fastest)),
        style="bars",
        caption="Milliseconds an image; shorter is faster.",
    )
    table = Table(
        title="Medians",
        columns=("Who", *(COLUMNS[what][0] for what in shown)),
        rows=tuple((peer.name, *(getattr(peer, what) for what in shown)) for _, peer in timed),
        digits=(4, *(COLUMNS[what][1] for what in shown)),
    )
    return Measurement(
        name="contest",
        question=title,
        finding=f"Not timed: {'; '.join(skipped)}" if skipped else "",
        panels=(bars, table) if timed else (),
    )


def _bar(time_ms: float, peer: BenchPeer, index: int) -> Point:
    is_ours = peer.name.startswith(OURS)
    ratio = peer.ratio_to_ours
    times = "" if ratio is None or (ratio == 1 and is_ours) else f", {ratio:.2f}x"
    text = f"{time_ms:.1f} ms{times}"
    return Point(name=peer.name, x=time_ms, y=float(index), text=text, detail=text, is_base=is_ours)


def _growth(growth: BenchGrowth, name: str) -> Measurement:
    """Time of one image against its pixels, at equal steps of a factor where both are powers."""
    line = Curve(name=name, x=numbers(side * side / 1e6 for side in growth.sides_px), y=numbers(growth.times_ms))
    x, y = Axis(title="megapixels", scale="log"), Axis(title="ms an image", scale="log")
    return Measurement(
        name="growth",
        question="How does the time grow with the image?",
        finding=f"One image, our optimized model: its time grows with the number of tokens to the power of "
        f"{growth.exponent:.3f}.",
        panels=(Curves(title="Against the size of the image", x=x, y=y, curves=(line,)),),
    )
