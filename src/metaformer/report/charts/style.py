"""What the charts share. A colour is the name of a CSS variable, which the page resolves for its theme."""

import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from metaformer.core.errors import MissingExtraError
from metaformer.core.measurement import Axis, Line

try:
    from plotly import graph_objects as go
except ImportError:
    raise MissingExtraError(need="the HTML page", extra="report") from None

__all__ = ["ACCENT", "INK", "MUTED", "PAPER", "RULE", "axis_of", "figure", "go", "label", "line_shapes", "styles_of"]

INK, MUTED, RULE, PAPER, ACCENT = "var(--ink)", "var(--muted)", "var(--rule)", "var(--page)", "var(--accent)"
# One hue a group; a group beyond them takes the next line style.
SERIES = tuple(f"var(--series-{index})" for index in range(7))
DASHES = ("solid", "dash", "dot", "dashdot")
LEGEND_BELOW = {"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top", "font": {"size": 12.5}}


def figure(traces: Iterable[Any], *, height: int, **layout: Any) -> Any:
    """A figure without plotly's own theme: the page's ink on the page's paper."""
    shared = {
        "template": {"data": {}, "layout": {}},
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 16, "b": 48},
        "font": {"size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": {"color": INK}, "align": "left"},
        "showlegend": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": RULE, "activecolor": MUTED},
    }
    return go.Figure(data=list(traces), layout=shared | layout)


def axis_of(axis: Axis, **options: Any) -> dict[str, Any]:
    """A quiet axis: hairlines, no frame."""
    quiet: dict[str, Any] = {
        "title": {"text": label(axis.title), "standoff": 10, "font": {"size": 13, "color": MUTED}},
        "gridcolor": RULE,
        "zeroline": False,
        "linecolor": MUTED,
        "automargin": True,
    }
    if axis.scale == "log":
        quiet |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    if axis.categories:
        shown = [label(name, width=22) for name in axis.categories]
        quiet |= {"tickvals": list(range(len(shown))), "ticktext": shown}
    return quiet | options


def line_shapes(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Straight lines over the whole panel, each with its text."""
    shapes = []
    for line in lines:
        this, other = ("x", "y") if line.axis == "x" else ("y", "x")
        place = {f"{this}0": line.at, f"{this}1": line.at, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
        text = {"label": {"text": label(line.text), "font": {"size": 11, "color": MUTED}}} if line.text else {}
        shapes.append({"type": "line", "layer": "below", "line": {"color": MUTED, "width": 1}} | place | text)
    return shapes


def styles_of(groups: Iterable[str], *, base: str | None = None) -> dict[str, dict[str, str]]:
    """The line style of each group, in their order. The base is drawn in ink."""
    styles: dict[str, dict[str, str]] = {}
    index = 0
    for group in dict.fromkeys(groups):
        if group == base:
            styles[group] = {"color": INK, "dash": "solid"}
            continue
        styles[group] = {"color": SERIES[index % len(SERIES)], "dash": DASHES[index // len(SERIES) % len(DASHES)]}
        index += 1
    return styles


def label(text: str, *, width: int = 200) -> str:
    """Text for plotly, which reads a little HTML: escaped, and broken into lines of `width` characters."""
    return "<br>".join(escape(line, quote=False) for line in textwrap.wrap(text, width) or [""])
