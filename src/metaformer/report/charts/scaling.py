"""Cost of token mixers against the number of tokens, on logarithmic axes."""

from collections.abc import Callable, Sequence
from math import log
from statistics import linear_regression
from typing import Any

from metaformer.core.records import CostSeries, Scaling, SizeCost
from metaformer.report.charts.style import DASHES, MUTED, SERIES, axis, figure, finite, go, label

# As many sizes as the record's own exponents are fitted through.
NUM_FITTED = 3


def numbers_of(point: SizeCost) -> int:
    """All numbers of a mixer at one size: those of a random matrix are fixed, and take their place all the same."""
    return point.params + point.frozen


# Chart -> level, title of the axis, the number of a point; in the order of the page's buttons.
CHARTS: dict[str, tuple[str, str, Callable[[SizeCost], float | None]]] = {
    "mixer-time": ("mixer", "milliseconds, the mixer alone", lambda point: point.time_ms),
    "model-time": ("model", "milliseconds, whole model", lambda point: point.time_ms),
    "mixer-memory": ("mixer", "MiB at most, the mixer alone", lambda point: point.memory_mib),
    "model-memory": ("model", "MiB at most, whole model", lambda point: point.memory_mib),
    "mixer-parameters": ("mixer", "numbers, trained and frozen", numbers_of),
}


def scaling_charts(record: Scaling | None) -> dict[str, Any]:
    """Chart -> figure, for what the scaling record holds."""
    series = record.series if record else ()
    charts = {}
    for name, (level, title, value) in CHARTS.items():
        shown = [one for one in series if one.level == level and one.points]
        traces = [trace for index, one in enumerate(shown) if (trace := _trace(one, index, value, name)) is not None]
        if traces:
            charts[f"scaling-{name}"] = _figure(traces, title, level)
    return charts


def _trace(series: CostSeries, index: int, value: Callable[[SizeCost], float | None], chart: str) -> Any | None:
    points = series.points
    ys = [float(value(point) or 0.0) for point in points]
    # A logarithm has no place for zero: a mixer without parameters has no line.
    if max(ys) <= 0:
        return None
    exponent = _exponent(series, chart)
    name = f"{series.name.replace('_', ' ')}{exponent}"
    return go.Scatter(
        name=label(name),
        x=[point.num_tokens for point in points],
        y=finite([y if y > 0 else None for y in ys]),
        mode="lines+markers",
        marker={"size": 6},
        line={"width": 2, "color": SERIES[index % len(SERIES)], "dash": DASHES[index // len(SERIES) % len(DASHES)]},
        hovertemplate="%{y:.4g}<extra>" + label(name) + "</extra>",
    )


def _exponent(series: CostSeries, chart: str) -> str:
    if chart.endswith("-time"):
        fitted = series.time_exponent
        return f", N^{fitted.value:.1f}" if fitted else ", overhead"
    if chart.endswith("-parameters"):
        return _numbers_exponent(series.points)
    counted = series.memory_exponent
    return "" if counted is None else f", N^{counted:.1f}"


def _numbers_exponent(points: Sequence[SizeCost]) -> str:
    """The slope of what is drawn, over the largest sizes; the record's own exponent is that of the trained ones."""
    last = sorted(points, key=lambda point: point.num_tokens)[-NUM_FITTED:]
    if len(last) < NUM_FITTED or min(numbers_of(point) for point in last) <= 0:
        return ""
    tokens, numbers = [log(point.num_tokens) for point in last], [log(numbers_of(point)) for point in last]
    return f", N^{linear_regression(tokens, numbers).slope:.1f}"


def _figure(traces: Sequence[Any], title: str, level: str) -> Any:
    place = "first stage" if level == "model" else "grid"
    return figure(
        traces,
        height=400 + 22 * (-(-len(traces) // 3)),
        margin={"l": 8, "r": 12, "t": 12, "b": 48},
        hovermode="x",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.18, "yanchor": "top", "font": {"size": 12.5}},
        xaxis=axis(f"tokens N of the {place}", type="log", showgrid=False, ticks="outside", ticklen=4, tickcolor=MUTED)
        | {"showline": True, "dtick": 1, "minor": {"ticks": "outside", "ticklen": 2, "tickcolor": MUTED}},
        yaxis=axis(title, type="log", dtick=1, exponentformat="power"),
    )
