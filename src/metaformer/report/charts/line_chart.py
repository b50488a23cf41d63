"""A chart of lines as SVG: no script, prints well, and takes the colours of the page it stands in."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 28.0, 56.0
TITLE_BASELINE = 14.0  # a dot at the top of the frame stays below it
NUM_TICKS = 6
STEPS = (1, 2, 2.5, 5, 10)
# Of the page; where there is no page, the second value.
COLORS = tuple(
    f"var(--series-{index}, {fallback})"
    for index, fallback in enumerate(("#3b6fb5", "#c4622d", "#2f8f6b", "#8d5bb0", "#b0892a", "#4aa3b5", "#b0506e"))
)
INK, MUTED, RULE = "var(--ink, #222)", "var(--muted, #667)", "var(--rule, #ddd)"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A named line."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(lines: Sequence[Line], *, x_title: str, y_title: str, described: str) -> str:
    """The lines in one frame, each named where it ends, with round numbers on the axes.

    Args:
        lines: At least one point altogether.
        x_title: With the unit.
        y_title: With the unit.
        described: The chart in words, for who does not see it.
    """
    xs, ys = ([value for line in lines for value in getattr(line, axis)] for axis in ("x", "y"))
    x_ticks, y_ticks = ticks(0.0, max(xs)), ticks(min(ys), max(ys))
    x_low, x_high = 0.0, max(max(xs), x_ticks[-1])
    y_low, y_high = y_ticks[0], max(y_ticks[-1], max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / max(1e-12, x_high - x_low)
        up = (y - y_low) / max(1e-12, y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(described)}" '
        'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="13">'
    ]
    for tick in y_ticks:
        _, y = place(0.0, tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{RULE}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{tick:g}", MUTED, "end"))
    for tick in x_ticks:
        x, bottom = place(tick, y_low)
        parts.append(_text(x, bottom + 20, f"{tick:g}", MUTED, "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, MUTED, "middle"))
    parts.append(_text(LEFT, TITLE_BASELINE, y_title, MUTED, "start"))
    # The legend stands on the right, where the lines are not: above those that fall, below those that rise.
    falls = sum(line.y[-1] - line.y[0] for line in lines) < 0
    first_row = TOP + 16 if falls else HEIGHT - BOTTOM - 14 - 20 * (len(lines) - 1)
    for index, line in enumerate(lines):
        points = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        color = COLORS[index % len(COLORS)]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in points]
        row = first_row + 20 * index
        parts.append(f'<rect x="{WIDTH - RIGHT - 12}" y="{row - 9}" width="12" height="4" fill="{color}"/>')
        parts.append(_text(WIDTH - RIGHT - 18, row - 3, line.name, INK, "end"))
    return "\n".join([*parts, "</svg>"])


def as_file(svg: str) -> str:
    """A chart that stands alone: on white, in colours that need no page around it."""
    head, _, rest = svg.partition("\n")
    paper = f'<rect width="{WIDTH:g}" height="{HEIGHT:g}" fill="#fff"/>'
    return re.sub(r"var\(--[\w-]+, (#\w+)\)", r"\1", "\n".join([head, paper, rest])) + "\n"


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers from at or below `low` to at or below `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / NUM_TICKS
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in STEPS if factor * size >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _text(x: float, y: float, text: str, color: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'
