"""One page for a bench: who takes how long, contest by contest."""

from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import DataError
from metaformer.core.run_record import RunRecord, read_run_record
from metaformer.report.charts.bar_chart import Bar, bar_chart
from metaformer.report.charts.line_chart import Line, line_chart
from metaformer.report.number_text import NOTHING, plain
from metaformer.report.pages.study_page import PAGE_FILE, asset, environment

OURS = "ours, "
# As the records name what they hold; a column's title, and the digits of its numbers (None: a power of ten).
COLUMNS = {
    "time": ("ms an image", 2),
    "spread": ("Spread (%)", 1),
    "ratio_to_ours": ("Times ours", 2),
    "share_of_peak": ("Of the peak (%)", 0),
    "peak_memory": ("Peak memory (MiB)", 0),
    "largest_difference": ("Largest difference", None),
}
TITLES = {"inference": "Inference", "training": "Training step"}


@dataclass
class _Contest:
    """One batch of one size in one dtype, and what was measured of each peer."""

    title: str
    peers: dict[str, dict[str, float]] = field(default_factory=dict)  # peer -> what -> value
    skipped: dict[str, str] = field(default_factory=dict)


def write_bench_page(folder: Path) -> Path:
    """Writes the page of a bench into its folder.

    Raises:
        DataError: The folder holds no bench.
    """
    record = read_run_record(folder)
    if record.kind != "bench":
        raise DataError(f"{folder} holds no bench; its record is of kind {record.kind!r}.")
    text = (
        environment()
        .get_template("bench.html.j2")
        .render(
            css=asset("page.css"),
            name=record.name,
            contests=[_shown(contest) for contest in _contests(record)],
            scaling=_scaling(record),
            exponent=record.metrics["cost_exponent"].value if "cost_exponent" in record.metrics else None,
            peak=record.metrics["multiply_add_peak"].value if "multiply_add_peak" in record.metrics else None,
            rounds=record.config.get("rounds", NOTHING),
            command=record.command,
            machine=record.machine,
            versions=record.versions,
        )
    )
    target = Path(folder) / PAGE_FILE
    write_text(target, text)
    return target


def _contests(record: RunRecord) -> list[_Contest]:
    """From names like "inference/batch 8/224 px/float32/timm, eager/time"."""
    found: dict[str, _Contest] = {}

    def contest_of(parts: list[str]) -> _Contest:
        title = f"{TITLES[parts[0]]}, {', '.join(parts[1:4])}"
        return found.setdefault(title, _Contest(title=title))

    for name, metric in record.metrics.items():
        parts = name.split("/")
        if parts[0] in TITLES and len(parts) == 6:
            contest_of(parts).peers.setdefault(parts[4], {})[parts[5]] = metric.value
    for name, reason in record.labels.get("skipped", {}).items():
        parts = name.split("/")
        contest_of(parts).skipped[parts[4]] = reason
    return list(found.values())


def _shown(contest: _Contest) -> dict[str, object]:
    timed = {peer: values for peer, values in contest.peers.items() if "time" in values}
    bars = [
        Bar(
            name=peer,
            value=values["time"],
            text=f"{values['time']:.1f} ms" + _times(values.get("ratio_to_ours"), peer),
            is_ours=peer.startswith(OURS),
        )
        for peer, values in sorted(timed.items(), key=lambda item: item[1]["time"])
    ]
    measured = {what for values in timed.values() for what in values}
    described = f"Milliseconds an image. {contest.title}."
    return {
        "title": contest.title,
        "chart": Markup(bar_chart(bars, described=described)) if bars else "",
        "columns": [title for what, (title, _) in COLUMNS.items() if what in measured],
        "rows": [
            (peer, [_number(values, what) for what in COLUMNS if what in measured]) for peer, values in timed.items()
        ],
        "skipped": contest.skipped,
    }


def _times(ratio: float | None, peer: str) -> str:
    return "" if ratio is None or (ratio == 1 and peer.startswith(OURS)) else f", {ratio:.2f}x"


def _number(values: dict[str, float], what: str) -> str:
    if what not in values:
        return NOTHING
    value, digits = values[what], COLUMNS[what][1]
    if digits is not None:
        return plain(value, digits)
    return f"{value:.0e}" if value else "0"


def _scaling(record: RunRecord) -> Markup | None:
    """Time of one image against its tokens, at equal steps of a factor where both are powers."""
    points = [
        (int(name.split("/")[1].removesuffix(" px")), metric.value)
        for name, metric in record.metrics.items()
        if name.startswith("scaling/")
    ]
    if not points:
        return None
    line = Line(name=record.name, x=[side * side / 1e6 for side, _ in points], y=[value for _, value in points])
    titles = {"x_title": "megapixels", "y_title": "ms an image"}
    return Markup(line_chart([line], **titles, described="Time of one image against its pixels."))
