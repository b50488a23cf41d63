"""Accuracy against what it costs, with the line of those that nothing beats on both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from metaformer.core.records import Spread
from metaformer.report.charts.style import ACCENT, INK, MUTED, axis, colors, figure, go, label
from metaformer.report.number_text import count, with_half_width
from metaformer.report.study.row import Row

Point = tuple[float, float]

# Where a label may sit around its point, and the shift of its centre in label widths and heights.
POSITIONS = {
    "middle right": (0.5, 0.0),
    "middle left": (-0.5, 0.0),
    "top center": (0.0, 1.0),
    "bottom center": (0.0, -1.0),
    "top right": (0.5, 0.9),
    "bottom right": (0.5, -0.9),
    "top left": (-0.5, 0.9),
    "bottom left": (-0.5, -0.9),
}
# With more points, only those on the line are named; the others say their names when pointed at.
MOST_NAMED = 12
# The size of the plot that labels are placed for, and of one letter, in pixels.
PLOT_PX, LETTER_PX, LINE_PX, POINT_PX = (340.0, 300.0), 6.3, 15.0, 9.0


@dataclass(frozen=True, kw_only=True)
class CostAxis:
    """A cost that accuracy is drawn against."""

    title: str
    value: Callable[[Row], float | None]
    more_is_better: bool = False
    ticks: str = "~s"  # 1.2M


# In the order of the page.
COSTS = {
    "macs": CostAxis(title="MACs, one image", value=lambda row: row.macs),
    "params": CostAxis(title="parameters, trained", value=lambda row: row.params),
    "latency": CostAxis(title="ms, inference on one thread", value=lambda row: _median(row.latency_ms), ticks="~g"),
    "memory": CostAxis(title="MiB at most, inference", value=lambda row: row.memory_mib, ticks="~g"),
    "speed": CostAxis(
        title="images a second, training", value=lambda row: _median(row.images_per_second), more_is_better=True
    ),
}


def cost_charts(rows: Sequence[Row]) -> dict[str, Any | None]:
    """Id -> accuracy against a cost; None where too few rows have it."""
    return {name: _chart(rows, cost) for name, cost in COSTS.items()}


def _median(spread: Spread | None) -> float | None:
    return spread.median if spread else None


def pareto(points: Sequence[Point], *, more_is_better: bool) -> list[Point]:
    """The points that no other equals or beats on both axes, from cheap to dear."""
    front: list[Point] = []
    for x, y in sorted(points, key=lambda point: (-point[0] if more_is_better else point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def _chart(rows: Sequence[Row], cost: CostAxis) -> Any | None:
    # Controls are meant to fail: they would squeeze the others into a corner.
    shown = [
        row
        for row in rows
        if not row.control and not row.other_conditions and row.accuracy is not None and cost.value(row)
    ]
    if len(shown) < 2:
        return None
    points = [(float(cost.value(row) or 0.0), float(row.accuracy or 0.0)) for row in shown]
    x_range, y_range = _padded([x for x, _ in points], 0.14), _padded(_ends(shown), 0.06)
    front = pareto(points, more_is_better=cost.more_is_better)
    traces = [_front(front), _points(rows, shown, points, front, cost.title, (x_range, y_range))]
    return figure(
        traces,
        height=400,
        margin={"l": 8, "r": 12, "t": 12, "b": 48},
        xaxis=axis(
            cost.title, range=x_range, tickformat=cost.ticks, nticks=6, ticks="outside", ticklen=4, tickcolor=MUTED
        )
        | {"showline": True, "showgrid": False},
        yaxis=axis("test accuracy (%)", range=y_range, nticks=7),
    )


def _ends(rows: Sequence[Row]) -> list[float]:
    return [(row.accuracy or 0.0) + side * (row.half_width or 0.0) for row in rows for side in (-1, 1)]


def _padded(values: Sequence[float], share: float) -> list[float]:
    pad = share * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
    return [min(values) - pad, max(values) + pad]


def _front(front: Sequence[Point]) -> Any:
    return go.Scatter(
        x=[x for x, _ in front],
        y=[y for _, y in front],
        mode="lines",
        # Between two points the cheaper one is the best there is.
        line={"shape": "hv", "color": ACCENT, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )


def _points(
    rows: Sequence[Row],
    shown: Sequence[Row],
    points: Sequence[Point],
    front: Sequence[Point],
    title: str,
    ranges: tuple[list[float], ...],
) -> Any:
    styles = colors(rows)
    named = [len(shown) <= MOST_NAMED or point in front for point in points]
    texts = [label(row.title, width=18) if is_named else "" for row, is_named in zip(shown, named, strict=True)]
    hovers = [
        f"<b>{label(row.title)}</b><br>{with_half_width(y, row.half_width)}%<br>{_amount(x)} {title}"
        for row, (x, y) in zip(shown, points, strict=True)
    ]
    return go.Scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        error_y={"array": [row.half_width or 0.0 for row in shown], "width": 0, "thickness": 1.2, "color": MUTED},
        mode="markers+text",
        cliponaxis=False,
        marker={"size": 10, "color": [styles[row.name]["color"] for row in shown]},
        text=texts,
        textposition=place_labels(_in_pixels(points, ranges), texts, bars=_bars(shown, ranges[1])),
        textfont={"size": 12, "color": INK},
        customdata=hovers,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _amount(value: float) -> str:
    return count(value) if value >= 1000 else f"{value:.3g}"


def _in_pixels(points: Sequence[Point], ranges: tuple[list[float], ...]) -> list[Point]:
    (x0, x1), (y0, y1) = ranges
    return [((x - x0) / (x1 - x0) * PLOT_PX[0], (y - y0) / (y1 - y0) * PLOT_PX[1]) for x, y in points]


def _bars(rows: Sequence[Row], y_range: Sequence[float]) -> list[float]:
    """Half the height of each error bar, in pixels."""
    return [(row.half_width or 0.0) / (y_range[1] - y_range[0]) * PLOT_PX[1] for row in rows]


def place_labels(points: Sequence[Point], texts: Sequence[str], *, bars: Sequence[float]) -> list[str]:
    """For each point the side on which its label covers least: of points, error bars, labels so far and the edge."""
    taken = [(x - POINT_PX, x + POINT_PX, y - POINT_PX, y + POINT_PX) for x, y in points]
    taken += [(x - 3, x + 3, y - bar, y + bar) for (x, y), bar in zip(points, bars, strict=True)]
    chosen = []
    for (x, y), text in zip(points, texts, strict=True):
        lines = text.split("<br>")
        width, height = LETTER_PX * max(len(line) for line in lines), LINE_PX * len(lines)
        boxes = {}
        for position, (right, up) in POSITIONS.items():
            cx = x + right * (width + 2 * POINT_PX)
            cy = y + up * (height / 2 + POINT_PX)
            boxes[position] = (cx - width / 2, cx + width / 2, cy - height / 2, cy + height / 2)
        best = min(boxes, key=lambda position: sum(_overlap(boxes[position], box) for box in [*taken, *_outside()]))
        taken.append(boxes[best])
        chosen.append(best)
    return chosen


def _outside() -> list[tuple[float, float, float, float]]:
    far, (width, height) = 1e4, PLOT_PX
    return [(-far, 0.0, -far, far), (width, far, -far, far), (-far, far, -far, 0.0), (-far, far, height, far)]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[2], b[2]))
