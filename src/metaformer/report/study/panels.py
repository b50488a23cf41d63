"""A study as panels: differences to the base, learning curves, accuracy against cost, classes, growth of cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import linear_regression

from metaformer.core.measurement import (
    Axis,
    Curve,
    Curves,
    Heatmap,
    Line,
    Mark,
    Numbers,
    Panel,
    Point,
    Points,
    numbers,
)
from metaformer.core.records import CostSeries, Scaling, SizeCost, Spread
from metaformer.report.number_text import count, signed, with_half_width
from metaformer.report.study.row import Row

TOLD = {"better": "told apart from the base", "worse": "told apart from the base"}
# How far a control may stretch the axis, in spans of the other rows.
REACH = 0.6
# Column of a history -> the axis; in the order of the page's buttons.
CURVES = {
    "validation_accuracy_percent": "Validation accuracy (%)",
    "validation_loss": "Validation loss (nats)",
    "train_loss": "Training loss (nats)",
}
# As many sizes as the record's own exponents are fitted through.
NUM_FITTED = 3


def study_panels(rows: Sequence[Row], *, class_names: Sequence[str], scaling: Scaling | None) -> dict[str, Panel]:
    """Id of its place on the page -> panel; what the records cannot fill is absent."""
    named: dict[str, Panel | None] = {
        "difference": difference_panel(rows),
        **{f"curve-{column}": curve_panel(rows, column) for column in CURVES},
        **{name: cost_panel(rows, cost) for name, cost in COSTS.items()},
        **{f"scaling-{name}": scaling_panel(scaling, name) for name in SCALING},
        "classes": class_panel(rows, class_names),
    }
    return {name: panel for name, panel in named.items() if panel is not None}


def difference_panel(rows: Sequence[Row]) -> Points | None:
    """One line a variant, in the order of the table; None where there is nothing to compare."""
    base = next(row for row in rows if row.is_base)
    shown = [(row, row.difference) for row in rows if not row.is_base and row.difference is not None]
    if base.accuracy is None or not shown:
        return None
    low, high = _range([row for row, _ in shown])
    notes = {row.paper_note for row, _ in shown if row.paper_note and row.paper_difference is not None}
    return Points(
        title="Difference to the base",
        x=Axis(title=f"points against {base.title}", low=low, high=high),
        y=Axis(title="", categories=tuple(row.title for row, _ in shown)),
        points=tuple(_difference(row, value, index) for index, (row, value) in enumerate(shown)),
        lines=(Line(at=0.0, axis="x"),),
        mark_title=f"the paper{f', {notes.pop()}' if len(notes) == 1 else ''}",
    )


def _difference(row: Row, value: float, index: int) -> Point:
    half, paper = row.difference_half_width, row.paper_difference
    text = with_half_width(value, half, sign=True)
    corrected = [f"corrected p = {row.p_holm:.2g}"] if row.p_holm is not None else []
    return Point(
        name=row.title,
        x=value,
        y=float(index),
        x_low=None if half is None else value - half,
        x_high=None if half is None else value + half,
        text=f"{text}\n{row.verdict}",
        detail="\n".join([f"{text} points", row.verdict, *corrected, f"seeds: {row.num_seeds}"]),
        group=TOLD.get(row.verdict, row.verdict),
        is_open=row.verdict not in TOLD,
        marks=() if paper is None else (Mark(x=paper, text=signed(paper)),),
    )


def _range(rows: Sequence[Row]) -> tuple[float, float]:
    """The axis that suits the rows which are not controls; what lies far beyond is drawn at its edge."""
    ends = [0.0, *_ends([row for row in rows if not row.control] or rows)]
    reach = REACH * (max(ends) - min(ends))
    near = [end for end in _ends(rows) if min(ends) - reach <= end <= max(ends) + reach]
    return min(ends + near), max(ends + near)


def _ends(rows: Sequence[Row]) -> list[float]:
    ends = [row.paper_difference for row in rows if row.paper_difference is not None]
    for row in rows:
        half = row.difference_half_width or 0.0
        ends += [row.difference - half, row.difference + half] if row.difference is not None else []
    return ends


def curve_panel(rows: Sequence[Row], column: str) -> Curves | None:
    """For each variant the mean over seeds, the reach of the seeds, and each seed."""
    curves = [curve for row in rows if (by_seed := row.curves.get(column)) for curve in _curves(row, by_seed)]
    if not curves:
        return None
    return Curves(title=CURVES[column], x=Axis(title="epoch"), y=Axis(title=CURVES[column]), curves=tuple(curves))


def _curves(row: Row, by_seed: dict[int, Numbers]) -> list[Curve]:
    longest = max(len(values) for values in by_seed.values())
    at = [[values[i] for values in by_seed.values() if i < len(values)] for i in range(longest)]
    known = [[value for value in values if value is not None] for values in at]
    seeds = [
        Curve(
            name=f"{row.title}, seed {seed}",
            x=numbers(range(1, len(values) + 1)),
            y=numbers(values),
            group=row.name,
            role="member",
            is_base=row.is_base,
        )
        for seed, values in by_seed.items()
    ]
    has_reach = len(by_seed) > 1
    mean = Curve(
        name=row.title,
        x=numbers(range(1, longest + 1)),
        y=numbers(sum(values) / len(values) if values else None for values in known),
        low=numbers(min(values, default=None) for values in known) if has_reach else (),
        high=numbers(max(values, default=None) for values in known) if has_reach else (),
        group=row.name,
        is_base=row.is_base,
    )
    return [*seeds, mean]


@dataclass(frozen=True, kw_only=True)
class CostAxis:
    """A cost that accuracy is drawn against."""

    title: str
    value: Callable[[Row], float | int | None]
    more_is_better: bool = False


# In the order of the page.
COSTS = {
    "macs": CostAxis(title="MACs, one image", value=lambda row: row.macs),
    "params": CostAxis(title="parameters, trained", value=lambda row: row.params),
    "latency": CostAxis(title="ms, inference on one thread", value=lambda row: _median(row.latency_ms)),
    "memory": CostAxis(title="MiB at most, inference", value=lambda row: row.memory_mib),
    "speed": CostAxis(
        title="images a second, training", value=lambda row: _median(row.images_per_second), more_is_better=True
    ),
}


def _median(spread: Spread | None) -> float | None:
    return spread.median if spread else None


def cost_panel(rows: Sequence[Row], cost: CostAxis) -> Points | None:
    """Accuracy against a cost, with the line of those that nothing beats on both; None where too few rows have it."""
    # Controls are meant to fail: they would squeeze the others into a corner.
    comparable = [row for row in rows if not row.control and not row.other_conditions]
    shown = [row for row in comparable if row.accuracy is not None and cost.value(row)]
    if len(shown) < 2:
        return None
    return Points(
        title=f"Accuracy against {cost.title}",
        x=Axis(title=cost.title),
        y=Axis(title="test accuracy (%)"),
        points=tuple(_cost_point(row, row.accuracy or 0.0, float(cost.value(row) or 0.0), cost.title) for row in shown),
        frontier="up_right" if cost.more_is_better else "up_left",
    )


def _cost_point(row: Row, accuracy: float, cost: float, title: str) -> Point:
    half = row.half_width
    return Point(
        name=row.title,
        x=cost,
        y=accuracy,
        y_low=None if half is None else accuracy - half,
        y_high=None if half is None else accuracy + half,
        text=row.title,
        detail=f"{with_half_width(accuracy, half)}%\n{count(cost) if cost >= 1000 else f'{cost:.3g}'} {title}",
        group=row.name,
        is_base=row.is_base,
    )


def class_panel(rows: Sequence[Row], class_names: Sequence[str]) -> Heatmap | None:
    """Where a variant gains and loses: accuracy of each class, minus that of the base; None where none was recorded."""
    found = [(row, row.per_class_difference) for row in rows if not row.is_base and row.per_class_difference]
    if not found:
        return None
    longest = max(len(values) for _, values in found)
    names = tuple(class_names) if len(class_names) == longest else tuple(map(str, range(longest)))
    # The ends of the colours suit the rows that are no controls.
    kept = [values for row, values in found if not row.control] or [values for _, values in found]
    limit = max((abs(value) for values in kept for value in values), default=0.0) or 1.0
    return Heatmap(
        title="Class by class",
        x=Axis(title="class", categories=names),
        y=Axis(title="", categories=tuple(row.title for row, _ in found)),
        values=tuple(numbers([*values, *[None] * (longest - len(values))]) for _, values in found),
        unit="points",
        low=-limit,
        high=limit,
        diverging=True,
    )


def numbers_of(point: SizeCost) -> int:
    """All numbers of a mixer at one size: those of a random matrix are fixed, and take their place all the same."""
    return point.params + point.frozen


# Chart -> level, title of the axis, the number of a point; in the order of the page's buttons.
SCALING: dict[str, tuple[str, str, Callable[[SizeCost], float | int | None]]] = {
    "mixer-time": ("mixer", "milliseconds, the mixer alone", lambda point: point.time_ms),
    "model-time": ("model", "milliseconds, whole model", lambda point: point.time_ms),
    "mixer-memory": ("mixer", "MiB at most, the mixer alone", lambda point: point.memory_mib),
    "model-memory": ("model", "MiB at most, whole model", lambda point: point.memory_mib),
    "mixer-parameters": ("mixer", "numbers, trained and frozen", numbers_of),
}


def scaling_panel(record: Scaling | None, name: str) -> Curves | None:
    """Cost of token mixers against the number of tokens, on logarithmic axes."""
    level, title, value = SCALING[name]
    curves = []
    for one in record.series if record else ():
        # A logarithm has no place for zero: a mixer without parameters has no line.
        ys = [y if (y := value(point)) and y > 0 else None for point in one.points]
        if one.level == level and any(y is not None for y in ys):
            shown = f"{one.name.replace('_', ' ')}{_exponent(one, name)}"
            curves.append(Curve(name=shown, x=numbers(point.num_tokens for point in one.points), y=numbers(ys)))
    place = "first stage" if level == "model" else "grid"
    tokens, cost = Axis(title=f"tokens N of the {place}", scale="log"), Axis(title=title, scale="log")
    return Curves(title=title, x=tokens, y=cost, curves=tuple(curves)) if curves else None


def _exponent(series: CostSeries, chart: str) -> str:
    if chart.endswith("-time"):
        return f", N^{series.time_exponent.value:.1f}" if series.time_exponent else ", overhead"
    if chart.endswith("-parameters"):
        return _numbers_exponent(series.points)
    return "" if series.memory_exponent is None else f", N^{series.memory_exponent:.1f}"


def _numbers_exponent(points: Sequence[SizeCost]) -> str:
    """The slope of what is drawn, over the largest sizes; the record's own exponent is that of the trained ones."""
    last = sorted(points, key=lambda point: point.num_tokens)[-NUM_FITTED:]
    if len(last) < NUM_FITTED or min(numbers_of(point) for point in last) <= 0:
        return ""
    tokens, values = [log(point.num_tokens) for point in last], [log(numbers_of(point)) for point in last]
    return f", N^{linear_regression(tokens, values).slope:.1f}"
