"""Points with named places on one axis: one row each, as intervals or as bars, each with its number beside it."""

from collections.abc import Sequence
from typing import Any

from metaformer.core.measurement import Point, Points
from metaformer.report.charts.style import ACCENT, INK, MUTED, PAPER, SERIES, axis_of, figure, go, label, line_shapes

MARK_OFFSET = 0.3  # another value's marker sits a little below the line of its point
ROW_PX, BAR_PX = 50, 34


def draw_rows(panel: Points) -> Any:
    """One row a place, the first at the top."""
    low, high = _ends(panel)
    last = len(panel.y.categories) - 1
    height = {point: last - point.y for point in panel.points}
    names = [label(name, width=22) for name in reversed(panel.y.categories)]
    traces = _bars(panel, height) if panel.style == "bars" else _intervals(panel, height, low=low, high=high)
    return figure(
        [*traces, *_marks(panel, height, low=low, high=high)],
        height=100 + (BAR_PX if panel.style == "bars" else ROW_PX) * (last + 1),
        margin={"l": 8, "r": 150, "t": 44 if panel.style == "points" else 16, "b": 52},
        showlegend=panel.style == "points",
        legend={"orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "itemclick": False}
        | {"itemdoubleclick": False, "yanchor": "top"},
        xaxis=axis_of(panel.x, range=[low, high], showline=False),
        yaxis=axis_of(
            panel.y,
            showgrid=False,
            showline=False,
            range=[-0.7, last + 0.6],
            tickvals=list(range(last + 1)),
            ticktext=names,
            # Room for the markers of what lies beyond the axis.
            ticklabelstandoff=8,
        ),
        shapes=line_shapes(panel.lines),
        annotations=[_note(point, height[point], panel) for point in panel.points if point.text],
    )


def _ends(panel: Points) -> tuple[float, float]:
    found = [end for point in panel.points for end in (point.x, point.x_low, point.x_high) if end is not None]
    found += [line.at for line in panel.lines if line.axis == "x"]
    found += [0.0] if panel.style == "bars" else []
    low = min(found, default=0.0) if panel.x.low is None else panel.x.low
    high = max(found, default=1.0) if panel.x.high is None else panel.x.high
    pad = 0.07 * (high - low) or 1.0
    return (low if panel.style == "bars" else low - pad), high + pad


def _edges(low: float, high: float) -> tuple[float, float]:
    """Where markers stand for what lies beyond: a little inside the axis."""
    inset = 0.025 * (high - low)
    return low + inset, high - inset


def _intervals(panel: Points, height: dict[Point, float], *, low: float, high: float) -> list[Any]:
    inside = [point for point in panel.points if low <= point.x <= high]
    traces = []
    for group, is_open in dict.fromkeys((point.group, point.is_open) for point in inside):
        shown = [point for point in inside if (point.group, point.is_open) == (group, is_open)]
        fill, edge = (PAPER, MUTED) if is_open else (ACCENT, ACCENT)
        error = {
            "array": [(point.x_high if point.x_high is not None else point.x) - point.x for point in shown],
            "arrayminus": [point.x - (point.x_low if point.x_low is not None else point.x) for point in shown],
        }
        traces.append(
            go.Scatter(
                name=label(group),
                showlegend=bool(group),
                x=[point.x for point in shown],
                y=[height[point] for point in shown],
                error_x=error | {"color": edge, "width": 0, "thickness": 2.4},
                mode="markers",
                marker={"size": 11, "color": fill, "line": {"color": edge, "width": 2}},
                customdata=[_hover(point) for point in shown],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    return traces + _beyond([point for point in panel.points if point not in inside], height, low=low, high=high)


def _beyond(points: Sequence[Point], height: dict[Point, float], *, low: float, high: float) -> list[Any]:
    """Arrows at the edge of the axis, with the number that does not fit on it."""
    if not points:
        return []
    left, (edge_low, edge_high) = [point.x < low for point in points], _edges(low, high)
    return [
        go.Scatter(
            showlegend=False,
            x=[edge_low if is_left else edge_high for is_left in left],
            y=[height[point] for point in points],
            mode="markers+text",
            marker={"size": 11, "color": [MUTED if point.is_open else ACCENT for point in points]}
            | {"symbol": [f"triangle-{'left' if side else 'right'}" for side in left]},
            text=[f" {label(point.text.splitlines()[0] if point.text else f'{point.x:.3g}')} " for point in points],
            textposition=["middle right" if side else "middle left" for side in left],
            customdata=[_hover(point) for point in points],
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        )
    ]


def _bars(panel: Points, height: dict[Point, float]) -> list[Any]:
    return [
        go.Bar(
            orientation="h",
            x=[point.x for point in panel.points],
            y=[height[point] for point in panel.points],
            marker={"color": [ACCENT if point.is_base else SERIES[6] for point in panel.points]},
            customdata=[_hover(point) for point in panel.points],
            hovertemplate="%{customdata}<extra></extra>",
        )
    ]


def _marks(panel: Points, height: dict[Point, float], *, low: float, high: float) -> list[Any]:
    shown = [(point, mark) for point in panel.points for mark in point.marks]
    if not shown:
        return []
    (edge_low, edge_high), title = _edges(low, high), label(panel.mark_title)
    return [
        go.Scatter(
            name=title,
            x=[min(max(mark.x, edge_low), edge_high) for _, mark in shown],
            y=[height[point] - MARK_OFFSET for point, _ in shown],
            mode="markers+text",
            marker={"size": 10, "symbol": "diamond-open", "color": MUTED, "line": {"width": 1.8, "color": MUTED}},
            text=["" if low <= mark.x <= high else f" {label(mark.text)} " for _, mark in shown],
            textposition=["middle right" if mark.x < low else "middle left" for _, mark in shown],
            textfont={"color": MUTED, "size": 11},
            customdata=[
                f"<b>{label(point.name)}</b><br>{label(panel.mark_title)}: {label(m.text)}" for point, m in shown
            ],
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        )
    ]


def _hover(point: Point) -> str:
    lines = point.detail.splitlines() or [f"{point.x:.4g}"]
    return "<br>".join([f"<b>{label(point.name)}</b>", *map(label, lines)])


def _note(point: Point, height: float, panel: Points) -> dict[str, Any]:
    """The number and what is said of it, in the margin; the page drops it where the screen is narrow."""
    in_margin = panel.style == "points"
    place: dict[str, Any] = {"x": 1, "xref": "paper", "xshift": 20} if in_margin else {"x": point.x, "xshift": 6}
    return place | {
        "name": "wide-only" if in_margin else "",
        "text": "<br>".join(map(label, point.text.splitlines())),
        "font": {"size": 12.5, "color": MUTED if point.is_open else INK},
        "xanchor": "left",
        "y": height,
        "align": "left",
        "showarrow": False,
    }
