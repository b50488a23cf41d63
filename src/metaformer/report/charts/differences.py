"""The main chart: each variant's difference to the base, with its interval, and the paper's difference."""

from collections.abc import Sequence
from typing import Any

from metaformer.report.charts.style import ACCENT, INK, MUTED, PAPER, axis, figure, go, label
from metaformer.report.number_text import signed, with_half_width
from metaformer.report.study.row import Row

TOLD = ("better", "worse")
# How far a control may stretch the axis, in spans of the other rows.
REACH = 0.6
PAPER_OFFSET = 0.3  # the paper's marker sits a little below the line of its variant

ZERO_LINE = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"} | {
    "line": {"color": INK, "width": 1}
}


def difference_chart(rows: Sequence[Row]) -> Any | None:
    """One line a variant, in the order of the table; None where there is nothing to compare."""
    base = next(row for row in rows if row.is_base)
    shown = [
        row for row in rows if not row.is_base and (row.difference is not None or row.paper_difference is not None)
    ]
    if base.accuracy is None or not any(row.difference is not None for row in shown):
        return None
    low, high = _range(shown)
    place = {row.name: len(shown) - 1 - index for index, row in enumerate(shown)}
    traces = [
        *_measured(shown, place, low=low, high=high),
        *_paper(shown, place, low=low, high=high),
    ]
    ticks: dict[str, Any] = {
        "tickvals": list(place.values()),
        "ticktext": [label(row.title, width=22) for row in shown],
        # Room for the markers of what lies beyond the axis.
        "ticklabelstandoff": 8,
    }
    return figure(
        traces,
        height=100 + 50 * len(shown),
        margin={"l": 8, "r": 150, "t": 44, "b": 52},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "itemclick": False}
        | {"itemdoubleclick": False, "yanchor": "top"},
        xaxis=axis(
            f"points against {label(base.title, width=36)}",
            range=[low, high],
            showline=False,
        ),
        yaxis=axis("", showgrid=False, showline=False, range=[-0.7, len(shown) - 0.4], **ticks),
        shapes=[ZERO_LINE],
        annotations=[_margin_note(row, place[row.name]) for row in shown],
    )


def _range(rows: Sequence[Row]) -> tuple[float, float]:
    """The axis that suits the rows which are not controls; what lies far beyond is drawn at its edge."""
    ends = [0.0, *_ends([row for row in rows if not row.control] or rows)]
    reach = REACH * (max(ends) - min(ends))
    near = [end for end in _ends(rows) if min(ends) - reach <= end <= max(ends) + reach]
    low, high = min(ends + near), max(ends + near)
    pad = 0.07 * (high - low) or 1.0
    return low - pad, high + pad


def _ends(rows: Sequence[Row]) -> list[float]:
    ends = [row.paper_difference for row in rows if row.paper_difference is not None]
    for row in rows:
        half = row.difference_half_width or 0.0
        ends += [row.difference - half, row.difference + half] if row.difference is not None else []
    return ends


def _measured(rows: Sequence[Row], place: dict[str, int], *, low: float, high: float) -> list[Any]:
    inside = [row for row in rows if row.difference is not None and low <= row.difference <= high]
    apart = [row for row in inside if row.verdict in TOLD]
    groups = (
        ("told apart from the base", apart, ACCENT, ACCENT),
        ("not told apart", [row for row in inside if row.verdict == "not told apart"], PAPER, MUTED),
        ("no verdict", [row for row in inside if row.verdict == "no verdict"], PAPER, MUTED),
    )
    traces = [
        go.Scatter(
            name=name,
            x=[row.difference for row in group],
            y=[place[row.name] for row in group],
            error_x={"array": [row.difference_half_width or 0.0 for row in group], "color": edge}
            | {"width": 0, "thickness": 2.4},
            mode="markers",
            marker={"size": 11, "color": fill, "line": {"color": edge, "width": 2}},
            customdata=[_hover(row) for row in group],
            hovertemplate="%{customdata}<extra></extra>",
        )
        for name, group, fill, edge in groups
        if group
    ]
    beyond = [row for row in rows if row.difference is not None and row not in inside]
    return traces + _beyond(beyond, place, low=low, high=high)


def _beyond(rows: Sequence[Row], place: dict[str, int], *, low: float, high: float) -> list[Any]:
    """Arrows at the edge of the axis, with the number that does not fit on it."""
    if not rows:
        return []
    left = [(row.difference or 0.0) < low for row in rows]
    edge_low, edge_high = _edges(low, high)
    return [
        go.Scatter(
            showlegend=False,
            x=[edge_low if is_left else edge_high for is_left in left],
            y=[place[row.name] for row in rows],
            mode="markers+text",
            marker={"size": 11, "color": [ACCENT if row.verdict in TOLD else MUTED for row in rows]}
            | {"symbol": [f"triangle-{'left' if side else 'right'}" for side in left]},
            text=[f" {with_half_width(row.difference or 0.0, row.difference_half_width, sign=True)} " for row in rows],
            textposition=["middle right" if side else "middle left" for side in left],
            customdata=[_hover(row) for row in rows],
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        )
    ]


def _paper(rows: Sequence[Row], place: dict[str, int], *, low: float, high: float) -> list[Any]:
    shown = [row for row in rows if row.paper_difference is not None]
    if not shown:
        return []
    values = [row.paper_difference or 0.0 for row in shown]
    beyond = [not low <= value <= high for value in values]
    edge_low, edge_high = _edges(low, high)
    notes = {row.paper_note for row in shown if row.paper_note}
    return [
        go.Scatter(
            name=f"the paper{f', {label(notes.pop())}' if len(notes) == 1 else ''}",
            x=[min(max(value, edge_low), edge_high) for value in values],
            y=[place[row.name] - PAPER_OFFSET for row in shown],
            mode="markers+text",
            marker={"size": 10, "symbol": "diamond-open", "color": MUTED, "line": {"width": 1.8, "color": MUTED}},
            text=[f" {signed(value)} " if out else "" for value, out in zip(values, beyond, strict=True)],
            textposition=["middle right" if value < low else "middle left" for value in values],
            textfont={"color": MUTED, "size": 11},
            customdata=[
                f"<b>{label(row.title)}</b><br>the paper: {signed(row.paper_difference or 0.0)}" for row in shown
            ],
            hovertemplate="%{customdata} points<extra></extra>",
            cliponaxis=False,
        )
    ]


def _edges(low: float, high: float) -> tuple[float, float]:
    """Where markers stand for what lies beyond: a little inside the axis."""
    inset = 0.025 * (high - low)
    return low + inset, high - inset


def _hover(row: Row) -> str:
    lines = [f"<b>{label(row.title)}</b>", _difference(row) + " points", row.verdict]
    lines += [f"corrected p = {row.p_holm:.2g}"] if row.p_holm is not None else []
    lines += [f"seeds: {row.num_seeds}"]
    return "<br>".join(lines)


def _difference(row: Row) -> str:
    return with_half_width(row.difference or 0.0, row.difference_half_width, sign=True)


def _margin_note(row: Row, place: int) -> dict[str, Any]:
    """The number and its verdict, in the margin; the page drops it where the screen is narrow."""
    told = row.verdict in TOLD
    text = row.verdict if row.difference is None else f"{_difference(row)}<br>{row.verdict}"
    return {
        "name": "wide-only",
        "text": text,
        "font": {"size": 12.5, "color": INK if told else MUTED},
        "x": 1,
        "xref": "paper",
        "xanchor": "left",
        "xshift": 20,
        "y": place,
        "align": "left",
        "showarrow": False,
    }
