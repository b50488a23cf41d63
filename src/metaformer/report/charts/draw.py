"""One figure for each kind of panel; whoever measures knows nothing of them."""

from collections.abc import Callable
from typing import Any

from metaformer.core.measurement import Curves, Heatmap, Histogram, Panel, Points, Surface
from metaformer.report.charts.curves import draw_curves
from metaformer.report.charts.grids import draw_heatmap, draw_histogram, draw_surface
from metaformer.report.charts.points import draw_points
from metaformer.report.charts.rows import draw_rows


def _draw_points(panel: Points) -> Any:
    return draw_rows(panel) if panel.y.categories else draw_points(panel)


# Pictures and tables are HTML, which the page makes of them.
DRAWN: dict[type, Callable[[Any], Any]] = {
    Curves: draw_curves,
    Points: _draw_points,
    Heatmap: draw_heatmap,
    Surface: draw_surface,
    Histogram: draw_histogram,
}


def figure_json(panel: Panel) -> dict[str, Any] | None:
    """The panel as what plotly.js takes; None for one that is no chart."""
    draw = DRAWN.get(type(panel))
    if draw is None:
        return None
    drawn = draw(panel).to_plotly_json()
    layout = {key: value for key, value in drawn["layout"].items() if key != "template"}
    return {"data": drawn["data"], "layout": layout}
