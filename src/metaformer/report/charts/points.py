"""Points over one pair of axes, each with its name where it covers least, and the line of those that nothing beats."""

from collections.abc import Sequence
from typing import Any

from metaformer.core.measurement import Point, Points
from metaformer.report.charts.style import ACCENT, INK, MUTED, axis_of, figure, go, label, line_shapes, styles_of

Place = tuple[float, float]

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


def draw_points(panel: Points) -> Any:
    """A scatter of named points."""
    places = [(point.x, point.y) for point in panel.points]
    log = panel.x.scale == "log"
    x_range = None if log or not places else _padded([x for x, _ in places], 0.14)
    y_range = _padded(_ends(panel.points), 0.06) if places else None
    front = frontier(places, more_is_better=panel.frontier == "up_right") if panel.frontier != "none" else []
    traces = [_front(front)] if front else []
    x = axis_of(panel.x, range=x_range, nticks=6, ticks="outside", ticklen=4, tickcolor=MUTED)
    return figure(
        [*traces, _scatter(panel, places, front, (x_range or [0.0, 1.0], y_range or [0.0, 1.0]))],
        height=400,
        shapes=line_shapes(panel.lines),
        xaxis=x | {"showline": True, "showgrid": False} | ({} if log else {"tickformat": _format(places)}),
        yaxis=axis_of(panel.y, range=y_range, nticks=7),
    )


def frontier(points: Sequence[Place], *, more_is_better: bool) -> list[Place]:
    """The points that no other equals or beats on both axes, from cheap to dear."""
    front: list[Place] = []
    for x, y in sorted(points, key=lambda point: (-point[0] if more_is_better else point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def _format(places: Sequence[Place]) -> str:
    """Of the numbers along the axis: 1.2M where they are large."""
    return "~s" if max((x for x, _ in places), default=0.0) >= 1000 else "~g"


def _ends(points: Sequence[Point]) -> list[float]:
    return [end for point in points for end in (point.y, point.y_low, point.y_high) if end is not None]


def _padded(values: Sequence[float], share: float) -> list[float]:
    pad = share * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
    return [min(values) - pad, max(values) + pad]


def _front(front: Sequence[Place]) -> Any:
    return go.Scatter(
        x=[x for x, _ in front],
        y=[y for _, y in front],
        mode="lines",
        # Between two points the cheaper one is the best there is.
        line={"shape": "hv", "color": ACCENT, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )


def _scatter(panel: Points, places: Sequence[Place], front: Sequence[Place], ranges: tuple[list[float], ...]) -> Any:
    points = panel.points
    base = next((point.group or point.name for point in points if point.is_base), None)
    styles = styles_of((point.group or point.name for point in points), base=base)
    named = [len(points) <= MOST_NAMED or place in front for place in places]
    texts = [label(point.text, width=18) if named[index] else "" for index, point in enumerate(points)]
    up = [(point.y_high if point.y_high is not None else point.y) - point.y for point in points]
    down = [point.y - (point.y_low if point.y_low is not None else point.y) for point in points]
    (_, _), (y0, y1) = ranges
    bars = [max(pair) / (y1 - y0) * PLOT_PX[1] for pair in zip(up, down, strict=True)]
    return go.Scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        error_y={"array": up, "arrayminus": down, "width": 0, "thickness": 1.2, "color": MUTED},
        mode="markers+text",
        cliponaxis=False,
        marker={"size": 10, "color": [styles[point.group or point.name]["color"] for point in points]},
        text=texts,
        textposition=place_labels(_in_pixels(places, ranges), texts, bars=bars),
        textfont={"size": 12, "color": INK},
        customdata=["<br>".join([f"<b>{label(p.name)}</b>", *map(label, p.detail.splitlines())]) for p in points],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _in_pixels(points: Sequence[Place], ranges: tuple[list[float], ...]) -> list[Place]:
    (x0, x1), (y0, y1) = ranges
    return [((x - x0) / (x1 - x0) * PLOT_PX[0], (y - y0) / (y1 - y0) * PLOT_PX[1]) for x, y in points]


def place_labels(points: Sequence[Place], texts: Sequence[str], *, bars: Sequence[float]) -> list[str]:
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
