"""The table of the study, for a terminal, for Markdown and for a spreadsheet."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from metaformer.report.number_text import MINUS, NOTHING, PLUS_MINUS, count, plain, with_half_width
from metaformer.report.study.row import Row

TEXT_COLUMNS = ("variant", "difference")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column, wherever the table is shown."""

    key: str
    title: str
    unit: str
    text: Callable[[Row], str]
    sort: Callable[[Row], float | str | None]  # None sorts last


def columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns; the title of one names the base."""
    base = next((row.title for row in rows if row.is_base), "the base")
    return (
        Column(key="variant", title="Variant", unit="", text=lambda row: row.title, sort=lambda row: row.title.lower()),
        Column(key="seeds", title="Seeds", unit="", text=_seeds, sort=lambda row: row.num_seeds),
        Column(key="accuracy", title="Test accuracy", unit="%", text=_accuracy, sort=lambda row: row.accuracy),
        Column(key="difference", title=f"vs {base}", unit="points", text=_difference, sort=lambda row: row.difference),
        Column(key="params", title="Parameters", unit="", text=_params, sort=lambda row: row.params),
        Column(key="macs", title="MACs", unit="", text=_macs, sort=lambda row: row.macs),
        Column(key="speed", title="Training speed", unit="images/s", text=_speed, sort=_median_speed),
        *_measured_apart(rows),
        Column(key="paper", title="Paper", unit="top-1, %", text=_paper, sort=lambda row: row.paper_top1),
    )


def _measured_apart(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Latency and memory, where the study measured them."""
    latency = Column(key="latency", title="Latency", unit="ms", text=_latency, sort=_median_latency)
    memory = Column(key="memory", title="Memory", unit="MiB", text=_memory, sort=lambda row: row.memory_mib)
    return (
        *((latency,) if any(row.latency_ms for row in rows) else ()),
        *((memory,) if any(row.memory_mib for row in rows) else ()),
    )


def rich_table(rows: Sequence[Row]) -> Table:
    """The table for a terminal, narrow enough for 80 columns: words wrap, numbers do not."""
    table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 1, 0, 0))
    table.add_column("variant", min_width=15)
    # Worth a column only where it differs.
    uneven = len({_seeds(row) for row in rows}) > 1
    if uneven:
        table.add_column("seeds", justify="right")
    for title in ("test, %", "vs base"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict")
    for title in ("params", "MACs", "img/s", "paper"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        style = {"better": "green", "worse": "red"}.get(row.verdict, "")
        table.add_row(
            Text(row.title),
            *([_seeds(row)] if uneven else []),
            _accuracy(row),
            difference_number(row) if not row.is_base else "",
            Text("base" if row.is_base else row.verdict, style=style),
            NOTHING if row.params is None else count(row.params),
            _macs(row),
            _speed(row),
            _paper(row),
        )
    return table


def to_markdown(rows: Sequence[Row]) -> str:
    """The table for a README."""
    shown = columns(rows)
    lines = [[_heading(column) for column in shown]]
    lines.append(["---" if column.key in TEXT_COLUMNS else "---:" for column in shown])
    lines += [[markdown(column.text(row)) for column in shown] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def markdown(text: str) -> str:
    """Plain text for a cell of a Markdown table."""
    for character in "\\|*_`[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())


def to_latex(rows: Sequence[Row]) -> str:
    """The table for a paper, in the style of booktabs."""
    shown = columns(rows)
    lines = [
        f"\\begin{{tabular}}{{{''.join('l' if column.key in TEXT_COLUMNS else 'r' for column in shown)}}}",
        "\\toprule",
    ]
    lines += [_latex_line([_heading(column) for column in shown]), "\\midrule"]
    lines += [_latex_line([column.text(row) for column in shown]) for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(latex(cell) for cell in cells)} \\\\"


def latex(text: str) -> str:
    """Plain text for LaTeX."""
    signs = {"\\": "\\textbackslash{}", MINUS: "$-$", PLUS_MINUS: "$\\pm$", NOTHING: "--", "~": "\\textasciitilde{}"}
    signs |= {"^": "\\textasciicircum{}"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(signs.get(character, character) for character in text)


CSV_FIELDS: dict[str, Callable[[Row], object]] = {
    "variant": lambda row: row.name,
    "title": lambda row: row.title,
    "change": lambda row: row.change,
    "num_seeds": lambda row: row.num_seeds,
    "test_accuracy_percent": lambda row: row.accuracy,
    "test_accuracy_half_width": lambda row: row.half_width,
    "difference_points": lambda row: row.difference,
    "difference_half_width": lambda row: row.difference_half_width,
    "p": lambda row: row.p,
    "p_holm": lambda row: row.p_holm,
    "verdict": lambda row: row.verdict,
    "why_no_verdict": lambda row: row.why_no_verdict,
    "seeds_needed": lambda row: row.seeds_needed,
    "params": lambda row: row.params,
    "frozen": lambda row: row.frozen,
    "macs": lambda row: row.macs,
    "training_images_per_s": lambda row: row.images_per_second and row.images_per_second.median,
    "latency_ms": lambda row: row.latency_ms and row.latency_ms.median,
    "memory_mib": lambda row: row.memory_mib,
    "paper_top1_percent": lambda row: row.paper_top1,
    "note": lambda row: row.note,
    "errors": lambda row: "; ".join(f"seed {seed}: {one.message}" for seed, one in row.failures.items()),
}


def to_csv(rows: Sequence[Row]) -> str:
    """The numbers, all digits, for a spreadsheet; an empty cell is a number that is not there."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    writer.writerows([field(row) for field in CSV_FIELDS.values()] for row in rows)
    return out.getvalue()


def _heading(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _seeds(row: Row) -> str:
    notes = [f"{len(row.failures)} failed"] * bool(row.failures) + [f"{len(row.missing)} missing"] * bool(row.missing)
    return f"{row.num_seeds} ({', '.join(notes)})" if notes else str(row.num_seeds)


def _accuracy(row: Row) -> str:
    return NOTHING if row.accuracy is None else with_half_width(row.accuracy, row.half_width)


def _difference(row: Row) -> str:
    if row.is_base:
        return "base"
    if row.difference is None:
        return row.verdict
    return f"{difference_number(row)}, {row.verdict}"


def difference_number(row: Row) -> str:
    """The difference without its verdict."""
    if row.difference is None:
        return NOTHING
    return with_half_width(row.difference, row.difference_half_width, sign=True)


def seeds_hint(row: Row) -> str:
    """How many seeds would settle a row that is not told apart; "" where nothing is known."""
    needed = row.seeds_needed
    if row.verdict != "not told apart" or not needed:
        return ""
    return f"needs {'' if needed.startswith('>') else 'about '}{needed} seeds"


def _params(row: Row) -> str:
    if row.params is None:
        return NOTHING
    return f"{count(row.params)} + {count(row.frozen)} frozen" if row.frozen else count(row.params)


def _macs(row: Row) -> str:
    return NOTHING if row.macs is None else count(row.macs)


def _speed(row: Row) -> str:
    return NOTHING if row.images_per_second is None else f"{row.images_per_second.median:,.0f}"


def _latency(row: Row) -> str:
    return NOTHING if row.latency_ms is None else f"{row.latency_ms.median:.3g}"


def _median_latency(row: Row) -> float | None:
    return row.latency_ms.median if row.latency_ms else None


def _memory(row: Row) -> str:
    return NOTHING if row.memory_mib is None else f"{row.memory_mib:.3g}"


def _median_speed(row: Row) -> float | None:
    return row.images_per_second.median if row.images_per_second else None


def _paper(row: Row) -> str:
    return NOTHING if row.paper_top1 is None else plain(row.paper_top1)
