"""Learning curves: for each variant the mean over seeds, the reach of the seeds, and each seed."""

from collections.abc import Sequence
from typing import Any

from metaformer.core.measurement import Numbers
from metaformer.report.charts.style import MUTED, axis, colors, figure, finite, go, label
from metaformer.report.study.row import Row

# What may be drawn, in the order of the page's buttons.
COLUMNS = {
    "validation_accuracy_percent": "Validation accuracy (%)",
    "validation_loss": "Validation loss (nats)",
    "train_loss": "Training loss (nats)",
}

FEW_EPOCHS = 10


def curve_charts(rows: Sequence[Row]) -> dict[str, Any]:
    """Column -> its chart, for the columns that some run recorded."""
    recorded = [column for column in COLUMNS if any(row.curves.get(column) for row in rows)]
    return {column: _chart(rows, column) for column in recorded}


def _chart(rows: Sequence[Row], column: str) -> Any:
    styles = colors(rows)
    shown = [row for row in rows if row.curves.get(column)]
    num_epochs = max(len(values) for row in shown for values in row.curves[column].values())
    # Whole epochs, however few there are.
    whole = {"tick0": 1, "dtick": 1} if num_epochs <= FEW_EPOCHS else {}
    traces = [trace for row in shown for trace in _traces(row, row.curves[column], styles[row.name])]
    return figure(
        traces,
        # Room for the legend below: about three entries a line.
        height=420 + 22 * (-(-len(shown) // 3)),
        margin={"l": 8, "r": 12, "t": 12, "b": 48},
        hovermode="x",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top", "font": {"size": 12.5}},
        xaxis=axis("epoch", showgrid=False, ticks="outside", ticklen=4, tickcolor=MUTED, showline=True, hoverformat="d")
        | whole,
        yaxis=axis(COLUMNS[column]),
    )


def _traces(row: Row, by_seed: dict[int, Numbers], style: dict[str, str]) -> list[Any]:
    # A failed run is drawn as far as it came, and enters neither the mean nor the band.
    good = [by_seed[seed] for seed in by_seed if seed not in row.failures]
    longest = max((len(values) for values in good), default=0)
    columns = [
        [value for values in good if i < len(values) and (value := values[i]) is not None] for i in range(longest)
    ]
    epochs = list(range(1, longest + 1))
    traces = [_seed_line(row, seed, values, style) for seed, values in by_seed.items()]
    if len(good) > 1:
        edge = [max(column, default=None) for column in columns] + [
            min(column, default=None) for column in reversed(columns)
        ]
        traces.append(_band(row, epochs + epochs[::-1], edge, style))
    mean = [sum(column) / len(column) if column else None for column in columns]
    traces.append(
        go.Scatter(
            name=label(row.title),
            legendgroup=row.name,
            meta="mean",
            x=epochs,
            y=finite(mean),
            mode="lines",
            line={"width": 3 if row.is_base else 2} | style,
            hovertemplate="%{y:.4g}<extra>" + label(row.title) + "</extra>",
        )
    )
    return traces


def _seed_line(row: Row, seed: int, values: Numbers, style: dict[str, str]) -> Any:
    return go.Scatter(
        name=f"{label(row.title)}, seed {seed}",
        legendgroup=row.name,
        meta="seed",
        visible=False,
        showlegend=False,
        opacity=0.45,
        x=list(range(1, len(values) + 1)),
        y=finite(values),
        mode="lines",
        line={"width": 1} | style,
        hoverinfo="skip",
    )


def _band(row: Row, epochs: list[int], edge: list[float | None], style: dict[str, str]) -> Any:
    return go.Scatter(
        name=f"{label(row.title)}, reach of the seeds",
        legendgroup=row.name,
        meta="band",
        showlegend=False,
        opacity=0.16,
        x=epochs,
        y=finite(edge),
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=style["color"],
        hoverinfo="skip",
    )
