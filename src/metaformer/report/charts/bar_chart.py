"""A chart of bars as SVG, one below the other, each with its value: no script, prints well."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from metaformer.report.charts.line_chart import COLORS, INK, MUTED

WIDTH, ROW, NAME_WIDTH, VALUE_WIDTH = 760.0, 28.0, 230.0, 130.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A named length."""

    name: str
    value: float
    text: str  # what stands behind it
    is_ours: bool = False


def bar_chart(bars: Sequence[Bar], *, described: str) -> str:
    """Bars from zero, in the order given; ours in another colour.

    Args:
        bars: At least one, none of them below zero.
        described: The chart in words, for who does not see it.
    """
    longest = max(bar.value for bar in bars) or 1.0
    parts = [
        f'<svg viewBox="0 0 {WIDTH:g} {ROW * len(bars):g}" role="img" aria-label="{escape(described)}" '
        'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="13">'
    ]
    for index, bar in enumerate(bars):
        top, middle = index * ROW, index * ROW + ROW / 2 + 4
        length = (WIDTH - NAME_WIDTH - VALUE_WIDTH) * bar.value / longest
        weight = ' font-weight="600"' if bar.is_ours else ""
        parts.append(
            f'<text x="{NAME_WIDTH - 10:g}" y="{middle:g}" fill="{INK}" text-anchor="end"{weight}>'
            f"{escape(bar.name)}</text>"
            f'<rect x="{NAME_WIDTH:g}" y="{top + 4:g}" width="{length:.1f}" height="{ROW - 8:g}" rx="2" '
            f'fill="{COLORS[0 if bar.is_ours else 1]}"/>'
            f'<text x="{NAME_WIDTH + length + 8:.1f}" y="{middle:g}" fill="{MUTED}">{escape(bar.text)}</text>'
        )
    return "\n".join([*parts, "</svg>"])
