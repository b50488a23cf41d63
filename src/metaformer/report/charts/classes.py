"""Where a variant gains and loses: accuracy of each class, minus that of the base."""

from collections.abc import Sequence
from typing import Any

from metaformer.report.charts.style import axis, figure, finite, go, label
from metaformer.report.number_text import signed
from metaformer.report.study.row import Row

MOST_WITH_TEXT = 14  # classes; with more, numbers in the cells would not be legible


def class_chart(rows: Sequence[Row], class_names: Sequence[str]) -> Any | None:
    """A heatmap, variants down and classes across; None where no class was recorded."""
    shown = [row for row in rows if not row.is_base and row.per_class_difference]
    if not shown:
        return None
    differences = [list(row.per_class_difference or ()) for row in shown]
    longest = max(len(values) for values in differences)
    names = [label(str(name), width=12) for name in class_names] if len(class_names) == longest else []
    names = names or [str(index) for index in range(longest)]
    written = longest <= MOST_WITH_TEXT
    limit = _limit(shown)
    heatmap = go.Heatmap(
        z=[finite(values) for values in differences],
        text=[[signed(value, 0) for value in values] for values in differences],
        texttemplate="%{text}" if written else None,
        textfont={"size": 12},
        customdata=[[f"{label(row.title)}, class {name}" for name in names] for row in shown],
        hovertemplate="%{customdata}: %{text} points<extra></extra>",
        zmin=-limit,
        zmax=limit,
        colorscale=[[0, "var(--loss)"], [0.5, "var(--even)"], [1, "var(--gain)"]],
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "points", "side": "right"}, "thickness": 10, "outlinewidth": 0},
    )
    named = {"tickvals": list(range(longest)), "ticktext": names}
    titles = {"tickvals": list(range(len(shown))), "ticktext": [label(row.title, width=22) for row in shown]}
    return figure(
        [heatmap],
        height=90 + 34 * len(shown),
        margin={"l": 8, "r": 8, "t": 8, "b": 48},
        xaxis=axis("class", showgrid=False, **(named if written else {"nticks": 20})),
        yaxis=axis("", showgrid=False, autorange="reversed", **titles),
    )


def _limit(rows: Sequence[Row]) -> float:
    """The end of the colours: the largest difference of a row that is no control."""
    kept = [row for row in rows if not row.control] or rows
    return max((abs(value) for row in kept for value in row.per_class_difference or ()), default=0.0) or 1.0
