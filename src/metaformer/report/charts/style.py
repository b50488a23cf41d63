"""What the charts share. A colour is the name of a CSS variable, which the page resolves for its theme."""

import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite
from typing import Any

from metaformer.core.errors import MissingExtraError
from metaformer.report.study.row import Row

try:
    from plotly import graph_objects as go
except ImportError:
    raise MissingExtraError(need="the HTML page", extra="report") from None

__all__ = ["ACCENT", "INK", "MUTED", "PAPER", "RULE", "axis", "colors", "figure", "finite", "go", "label"]

INK, MUTED, RULE, PAPER, ACCENT = "var(--ink)", "var(--muted)", "var(--rule)", "var(--page)", "var(--accent)"
# One hue a variant; a variant beyond them takes the next line style.
SERIES = tuple(f"var(--series-{index})" for index in range(7))
DASHES = ("solid", "dash", "dot", "dashdot")


def figure(traces: Iterable[Any], *, height: int, **layout: Any) -> Any:
    """A figure without plotly's own theme: the page's ink on the page's paper."""
    shared = {
        "template": {"data": {}, "layout": {}},
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 16, "b": 48},
        "font": {"size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": {"color": INK}, "align": "left"},
        "showlegend": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": RULE, "activecolor": MUTED},
    }
    return go.Figure(data=list(traces), layout=shared | layout)


def axis(title: str, **options: Any) -> dict[str, Any]:
    """A quiet axis: hairlines, no frame."""
    quiet = {
        "title": {"text": title, "standoff": 10, "font": {"size": 13, "color": MUTED}},
        "gridcolor": RULE,
        "zeroline": False,
        "linecolor": MUTED,
        "automargin": True,
    }
    return quiet | options


def colors(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """The line style of each variant, the same in every chart. The base is drawn in ink."""
    styles: dict[str, dict[str, str]] = {}
    for row in rows:
        index = len([name for name in styles if styles[name]["color"] != INK])
        hue = {"color": SERIES[index % len(SERIES)], "dash": DASHES[index // len(SERIES) % len(DASHES)]}
        styles[row.name] = {"color": INK, "dash": "solid"} if row.is_base else hue
    return styles


def label(text: str, *, width: int = 200) -> str:
    """Text for plotly, which reads a little HTML: escaped, and broken into lines of `width` characters."""
    return "<br>".join(escape(line, quote=False) for line in textwrap.wrap(text, width) or [""])


def finite(values: Iterable[float | None]) -> list[float | None]:
    """Numbers that JSON can hold: a gap where a value is not finite."""
    return [value if value is not None and isfinite(value) else None for value in values]
