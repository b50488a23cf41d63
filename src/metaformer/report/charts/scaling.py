"""Cost of token mixers against the number of tokens, on logarithmic axes."""

from collections.abc import Callable, Mapping, Sequence
from math import log
from statistics import linear_regression, median
from typing import Any

from metaformer.core.run_record import RunRecord
from metaformer.report.charts.style import DASHES, MUTED, SERIES, axis, figure, finite, go, label

Point = Mapping[str, Any]
# As many sizes as the record's own exponents are fitted through.
NUM_FITTED = 3


def numbers_of(point: Point) -> int:
    """All numbers of a mixer at one size: those of a random matrix are fixed, and take their place all the same."""
    return int(point["params"] + point["frozen"])


# Chart -> level, title of the axis, the number of a point; in the order of the page's buttons.
CHARTS: dict[str, tuple[str, str, Callable[[Point], float]]] = {
    "mixer-time": ("mixer", "milliseconds, the mixer alone", lambda point: median(point["times_ms"])),
    "model-time": ("model", "milliseconds, whole model", lambda point: median(point["times_ms"])),
    "mixer-memory": ("mixer", "MiB at most, the mixer alone", lambda point: point["memory_mib"]),
    "model-memory": ("model", "MiB at most, whole model", lambda point: point["memory_mib"]),
    "mixer-parameters": ("mixer", "numbers, trained and frozen", numbers_of),
}


def scaling_charts(record: RunRecord | None) -> dict[str, Any]:
    """Chart -> figure, for what the scaling record holds."""
    series = record.labels.get("series", []) if record else []
    charts = {}
    for name, (level, title, value) in CHARTS.items():
        shown = [one for one in series if isinstance(one, dict) and one.get("level") == level and one.get("points")]
        traces = [trace for index, one in enumerate(shown) if (trace := _trace(one, index, value, name)) is not None]
        if traces:
            charts[f"scaling-{name}"] = _figure(traces, title, level)
    return charts


def _trace(series: Mapping[str, Any], index: int, value: Callable[[Point], float], chart: str) -> Any | None:
    points = series["points"]
    ys = [float(value(point)) for point in points]
    # A logarithm has no place for zero: a mixer without parameters has no line.
    if max(ys) <= 0:
        return None
    exponent = _exponent(series, chart)
    name = f"{str(series['name']).replace('_', ' ')}{exponent}"
    return go.Scatter(
        name=label(name),
        x=[point["num_tokens"] for point in points],
        y=finite([y if y > 0 else None for y in ys]),
        mode="lines+markers",
        marker={"size": 6},
        line={"width": 2, "color": SERIES[index % len(SERIES)], "dash": DASHES[index // len(SERIES) % len(DASHES)]},
        hovertemplate="%{y:.4g}<extra>" + label(name) + "</extra>",
    )


def _exponent(series: Mapping[str, Any], chart: str) -> str:
    if chart.endswith("-time"):
        fitted = series.get("time_exponent")
        return f", N^{fitted['value']:.1f}" if isinstance(fitted, dict) else ", overhead"
    if chart.endswith("-parameters"):
        return _numbers_exponent(series["points"])
    counted = series.get("memory_exponent")
    return f", N^{counted:.1f}" if isinstance(counted, int | float) else ""


def _numbers_exponent(points: Sequence[Point]) -> str:
    """The slope of what is drawn, over the largest sizes; the record's own exponent is that of the trained ones."""
    last = sorted(points, key=lambda point: point["num_tokens"])[-NUM_FITTED:]
    if len(last) < NUM_FITTED or min(numbers_of(point) for point in last) <= 0:
        return ""
    tokens, numbers = (
        [log(value(point)) for point in last] for value in (lambda point: point["num_tokens"], numbers_of)
    )
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
