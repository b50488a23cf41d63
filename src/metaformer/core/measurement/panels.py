"""The kinds of panels: what a chart shows, without how it is drawn.

A value that is not known, or not finite, is None: a gap in a curve, an empty cell in a table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

Numbers = tuple[float | None, ...]


def numbers(values: Iterable[float | int | None]) -> Numbers:
    """Values as a panel takes them: None where one is missing or not finite."""
    return tuple(float(value) if value is not None and isfinite(value) else None for value in values)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is laid off along a side of a panel."""

    title: str  # with its unit in brackets, as in "time (ms)"
    scale: Literal["linear", "log"] = "linear"
    categories: tuple[str, ...] = ()  # names of the places 0, 1, 2, ...; none: a number stands for itself
    # Ends of what is drawn; None: of the values. A point beyond stands at the edge, as an arrow with its number.
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A named line, with the interval around it where there is one."""

    name: str
    x: Numbers
    y: Numbers
    low: Numbers = ()  # lower end of the interval at each x; empty: none is drawn
    high: Numbers = ()
    group: str = ""  # curves of one group share a colour and switch together: seeds of one variant; empty: its own
    role: Literal["main", "member", "reference"] = "main"  # member: one of many behind a main one, such as one seed
    is_base: bool = False  # what the others are compared with

    def __post_init__(self) -> None:
        _same_length("Curve", self.name, x=self.x, y=self.y)
        for name, end in (("low", self.low), ("high", self.high)):
            if end:
                _same_length("Curve", self.name, x=self.x, **{name: end})


@dataclass(frozen=True, kw_only=True)
class Line:
    """A straight line that helps to read a panel, at one value of an axis."""

    at: float
    text: str = ""
    axis: Literal["x", "y"] = "y"


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lines over one pair of axes."""

    title: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    lines: tuple[Line, ...] = ()
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Another value that belongs to a point, such as the paper's."""

    x: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A named place, with its interval along each axis where there is one."""

    name: str
    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    text: str = ""  # beside the point; empty: nothing
    detail: str = ""  # what is said when it is pointed at
    group: str = ""  # points of one group share a colour, or a line of the legend
    is_base: bool = False
    is_open: bool = False  # drawn hollow: what it says is not settled
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points over one pair of axes; with categories on one axis, a chart of intervals or bars, one a row."""

    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    style: Literal["points", "bars"] = "points"
    frontier: Literal["none", "up_left", "up_right"] = "none"  # joins the points that nothing beats, towards there
    mark_title: str = ""  # what the marks are
    lines: tuple[Line, ...] = ()
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A value for each pair: `values[row][column]`, the row along y."""

    title: str
    x: Axis
    y: Axis
    values: tuple[Numbers, ...]
    unit: str = ""
    low: float | None = None  # ends of the colour scale; None: of the values
    high: float | None = None
    diverging: bool = False  # zero is the middle, and has its own colour
    caption: str = ""

    def __post_init__(self) -> None:
        if len({len(row) for row in self.values}) > 1:
            raise ValueError(f"Heatmap {self.title!r}: all rows of values must have the same length.")


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A value over a plane: `values[i][j]` at `x[j]`, `y[i]`; drawn in three dimensions and as contours."""

    title: str
    x_axis: Axis
    y_axis: Axis
    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[Numbers, ...]
    value_title: str = ""
    caption: str = ""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.y) or any(len(row) != len(self.x) for row in self.values):
            raise ValueError(f"Surface {self.title!r}: values must have {len(self.y)} rows of {len(self.x)}.")


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A density or counts over bins, one or several series: `heights[s][b]` between `edges[b]` and `edges[b + 1]`."""

    title: str
    x: Axis
    y: Axis
    edges: tuple[float, ...]
    heights: tuple[Numbers, ...]
    names: tuple[str, ...]
    caption: str = ""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.heights) or any(len(row) != len(self.edges) - 1 for row in self.heights):
            raise ValueError(f"Histogram {self.title!r}: each of the names needs one height a bin.")


@dataclass(frozen=True, kw_only=True)
class Image:
    """One picture."""

    name: str
    png_base64: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Pictures in rows."""

    title: str
    images: tuple[Image, ...]
    num_columns: int
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells; a number is shown with the digits of its column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]
    digits: tuple[int, ...] = ()  # significant digits of each column's numbers; empty: 4
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"Table {self.title!r}: each row needs {len(self.columns)} cells.")
        if self.digits and len(self.digits) != len(self.columns):
            raise ValueError(f"Table {self.title!r}: digits must be given for each of the {len(self.columns)} columns.")


def _same_length(kind: str, name: str, **columns: Sequence[float | None]) -> None:
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{len(column)} {key}" for key, column in columns.items())
        raise ValueError(f"{kind} {name!r}: columns must have the same length; got {lengths}.")
