"""Values over a grid or over bins: heatmaps, surfaces, histograms."""

from typing import Any

from metaformer.core.measurement import Axis, Heatmap, Histogram, Surface
from metaformer.report.charts.style import LEGEND_BELOW, MUTED, axis_of, figure, go, label, line_shapes, styles_of
from metaformer.report.number_text import plain, signed

MOST_WITH_TEXT = 14  # columns; with more, numbers in the cells would not be legible
DIVERGING = [[0, "var(--loss)"], [0.5, "var(--even)"], [1, "var(--gain)"]]
RISING = [[0, "var(--even)"], [1, "var(--gain)"]]


def draw_heatmap(panel: Heatmap) -> Any:
    """The values as colours, the first row at the top; as numbers too, where these have room."""
    num_rows, num_columns = len(panel.values), len(panel.values[0]) if panel.values else 0
    low, high = _limits(panel)
    text = signed if panel.diverging else plain
    digits = 0 if high - low > 20 else 1 if high - low > 2 else 2
    shown = [["" if value is None else text(value, digits) for value in row] for row in panel.values]
    rows, columns = _names(panel.y, num_rows), _names(panel.x, num_columns)
    trace = go.Heatmap(
        z=[list(row) for row in panel.values],
        text=shown,
        texttemplate="%{text}" if num_columns <= MOST_WITH_TEXT else None,
        textfont={"size": 12},
        customdata=[[f"{label(row)}, {label(panel.x.title)} {label(column)}" for column in columns] for row in rows],
        hovertemplate="%{customdata}: %{z:.4g} " + label(panel.unit) + "<extra></extra>",
        zmin=low,
        zmax=high,
        colorscale=DIVERGING if panel.diverging else RISING,
        xgap=1 if num_columns <= MOST_WITH_TEXT else 0,
        ygap=1 if num_columns <= MOST_WITH_TEXT else 0,
        colorbar={"title": {"text": label(panel.unit), "side": "right"}, "thickness": 10, "outlinewidth": 0},
    )
    # Many names would run into each other; numbers stand for them.
    x = panel.x if num_columns <= MOST_WITH_TEXT else Axis(title=panel.x.title)
    return figure(
        [trace],
        height=90 + 34 * num_rows if num_rows <= MOST_WITH_TEXT else 480,
        margin={"l": 8, "r": 8, "t": 8, "b": 48},
        xaxis=axis_of(x, showgrid=False, **({} if x.categories else {"nticks": 20})),
        yaxis=axis_of(panel.y, showgrid=False, autorange="reversed"),
    )


def _limits(panel: Heatmap) -> tuple[float, float]:
    values = [value for row in panel.values for value in row if value is not None]
    low = min(values, default=0.0) if panel.low is None else panel.low
    high = max(values, default=1.0) if panel.high is None else panel.high
    if panel.diverging:
        limit = max(abs(low), abs(high)) or 1.0
        return -limit, limit
    return low, high if high > low else low + 1.0


def _names(axis: Axis, number: int) -> list[str]:
    return list(axis.categories) if len(axis.categories) == number else [str(index) for index in range(number)]


def draw_surface(panel: Surface) -> Any:
    """The values in three dimensions, above their contours in the plane."""
    scene = {
        "xaxis": {"title": {"text": label(panel.x_axis.title)}, "gridcolor": MUTED},
        "yaxis": {"title": {"text": label(panel.y_axis.title)}, "gridcolor": MUTED},
        "zaxis": {"title": {"text": label(panel.value_title)}, "gridcolor": MUTED},
    }
    values = [list(row) for row in panel.values]
    shared: dict[str, Any] = {"x": list(panel.x), "y": list(panel.y), "z": values, "colorscale": RISING}
    contour = go.Contour(**shared, xaxis="x", yaxis="y", showscale=False, contours={"coloring": "heatmap"})
    surface = go.Surface(**shared, scene="scene", colorbar={"thickness": 10, "outlinewidth": 0})
    return figure(
        [surface, contour],
        height=460,
        scene=scene | {"domain": {"x": [0, 0.58], "y": [0, 1]}},
        xaxis=axis_of(panel.x_axis, domain=[0.68, 1]),
        yaxis=axis_of(panel.y_axis, domain=[0.15, 0.85]),
    )


def draw_histogram(panel: Histogram) -> Any:
    """Heights over bins; several series lie over each other."""
    middles = [(a + b) / 2 for a, b in zip(panel.edges, panel.edges[1:], strict=False)]
    widths = [b - a for a, b in zip(panel.edges, panel.edges[1:], strict=False)]
    styles = styles_of(panel.names)
    traces = [
        go.Bar(
            name=label(name),
            x=middles,
            y=list(heights),
            width=widths,
            opacity=1 if len(panel.names) == 1 else 0.6,
            marker={"color": styles[name]["color"], "line": {"width": 0}},
            hovertemplate="%{x:.4g}: %{y:.4g}<extra>" + label(name) + "</extra>",
        )
        for name, heights in zip(panel.names, panel.heights, strict=True)
    ]
    return figure(
        traces,
        height=360,
        barmode="overlay",
        showlegend=len(panel.names) > 1,
        legend=LEGEND_BELOW,
        shapes=line_shapes(()),
        xaxis=axis_of(panel.x, showgrid=False),
        yaxis=axis_of(panel.y),
    )
