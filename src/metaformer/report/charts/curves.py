"""Curves as plotly figures: main lines with the reach around them, and the members behind each."""

from collections.abc import Sequence
from typing import Any

from metaformer.core.measurement import Curve, Curves
from metaformer.report.charts.style import LEGEND_BELOW, MUTED, axis_of, figure, go, label, line_shapes, styles_of

FEW = 12  # points of a line that are marked each, and places of an axis that are named each


def draw_curves(panel: Curves) -> Any:
    """The lines over one pair of axes; members are hidden until the page shows them."""
    groups = [curve.group or curve.name for curve in panel.curves]
    base = next((group for group, curve in zip(groups, panel.curves, strict=True) if curve.is_base), None)
    styles = styles_of(groups, base=base)
    traces = [
        trace for group, one in zip(groups, panel.curves, strict=True) for trace in _traces(one, group, styles[group])
    ]
    num_named = sum(curve.role != "member" for curve in panel.curves)
    x: dict[str, Any] = {"showgrid": False, "ticks": "outside", "ticklen": 4, "tickcolor": MUTED, "showline": True}
    places = [value for curve in panel.curves for value in curve.x if value is not None]
    if panel.x.scale == "linear" and not panel.x.categories and places and all(place == int(place) for place in places):
        x |= {"hoverformat": "d"} | ({"tick0": min(places), "dtick": 1} if max(places) - min(places) < FEW else {})
    return figure(
        traces,
        # Room for the legend below: about three entries a line.
        height=400 + 22 * (-(-num_named // 3)),
        hovermode="x",
        showlegend=num_named > 1,
        legend=LEGEND_BELOW,
        shapes=line_shapes(panel.lines),
        xaxis=axis_of(panel.x, **x),
        yaxis=axis_of(panel.y),
    )


def _traces(curve: Curve, group: str, style: dict[str, str]) -> list[Any]:
    if curve.role == "reference":
        style = {"color": MUTED, "dash": "dot"}
    name, is_member = label(curve.name), curve.role == "member"
    marked = not is_member and len(curve.x) <= FEW
    line = go.Scatter(
        name=name,
        legendgroup=group,
        meta="seed" if is_member else "mean",
        visible=False if is_member else None,
        showlegend=not is_member,
        opacity=0.45 if is_member else 1,
        x=list(curve.x),
        y=list(curve.y),
        mode="lines+markers" if marked else "lines",
        marker={"size": 5} if marked else None,
        line={"width": 1 if is_member else 3 if curve.is_base else 2} | style,
        hoverinfo="skip" if is_member else None,
        hovertemplate=None if is_member else "%{y:.4g}<extra>" + name + "</extra>",
    )
    return [*_band(curve, group, style), line]


def _band(curve: Curve, group: str, style: dict[str, str]) -> list[Any]:
    known = [
        (x, low, high)
        for x, low, high in zip(curve.x, curve.low, curve.high, strict=False)
        if None not in (x, low, high)
    ]
    if not known:
        return []
    xs, lows, highs = (_column(known, index) for index in range(3))
    return [
        go.Scatter(
            name=f"{label(curve.name)}, interval",
            legendgroup=group,
            meta="band",
            showlegend=False,
            opacity=0.16,
            x=xs + xs[::-1],
            y=highs + lows[::-1],
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=style["color"],
            hoverinfo="skip",
        )
    ]


def _column(rows: Sequence[tuple[float | None, ...]], index: int) -> list[float | None]:
    return [row[index] for row in rows]
