"""All charts of the page, by the id of their place on it."""

from collections.abc import Sequence
from typing import Any

from metaformer.report.chart_classes import class_chart
from metaformer.report.chart_curves import curve_charts
from metaformer.report.chart_differences import difference_chart
from metaformer.report.chart_tradeoff import macs_chart, speed_chart
from metaformer.report.row import Row


def charts(rows: Sequence[Row], *, class_names: Sequence[str] = ()) -> dict[str, Any]:
    """Id -> plotly figure; a chart that the records cannot fill is absent."""
    named = {
        "difference": difference_chart(rows),
        **{f"curve-{column}": chart for column, chart in curve_charts(rows).items()},
        "macs": macs_chart(rows),
        "speed": speed_chart(rows),
        "classes": class_chart(rows, class_names),
    }
    return {name: chart for name, chart in named.items() if chart is not None}
