"""All charts of the page, by the id of their place on it."""

from collections.abc import Sequence
from typing import Any

from metaformer.core.records import Scaling
from metaformer.report.charts.classes import class_chart
from metaformer.report.charts.curves import curve_charts
from metaformer.report.charts.differences import difference_chart
from metaformer.report.charts.scaling import scaling_charts
from metaformer.report.charts.tradeoff import cost_charts
from metaformer.report.study.row import Row


def charts(rows: Sequence[Row], *, class_names: Sequence[str] = (), scaling: Scaling | None = None) -> dict[str, Any]:
    """Id -> plotly figure; a chart that the records cannot fill is absent."""
    named = {
        "difference": difference_chart(rows),
        **{f"curve-{column}": chart for column, chart in curve_charts(rows).items()},
        **cost_charts(rows),
        **scaling_charts(scaling),
        "classes": class_chart(rows, class_names),
    }
    return {name: chart for name, chart in named.items() if chart is not None}
