"""The claims and their verdicts, for a terminal, a README, a paper and a spreadsheet."""

import csv
import io
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from metaformer.report.claims.claims import CLAIM_FIELDS, UNTESTED, JudgedClaim
from metaformer.report.study.table import latex, markdown

STYLES = {"holds": "green", "contradicted": "red"}
HEADINGS = ("Claim", "The paper", "Here", "Verdict")


def claims_rich_table(judged: Sequence[JudgedClaim]) -> Table:
    """The verdicts for a terminal; claims without one in a last line."""
    table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 1, 0, 0))
    for title in ("", "claim", "here", "verdict"):
        table.add_column(title)
    for one in judged:
        if one.verdict != UNTESTED:
            table.add_row(
                one.claim.id, one.claim.text, Text(one.ours), Text(one.verdict, style=STYLES.get(one.verdict, ""))
            )
    rest = [one.claim.id for one in judged if one.verdict == UNTESTED]
    if rest:
        table.add_row("", f"{UNTESTED}: {', '.join(rest)}", "", "")
    return table


def claims_markdown(judged: Sequence[JudgedClaim]) -> str:
    """The table for a README."""
    lines = [HEADINGS, ("---",) * len(HEADINGS)]
    lines += [tuple(map(markdown, _cells(one))) for one in judged]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def claims_latex(judged: Sequence[JudgedClaim]) -> str:
    """The table for a paper, in the style of booktabs."""
    rows = [" & ".join(latex(cell) for cell in cells) + " \\\\" for cells in (HEADINGS, *map(_cells, judged))]
    head = [
        "\\begin{tabular}{p{0.3\\linewidth}p{0.2\\linewidth}p{0.33\\linewidth}l}",
        "\\toprule",
        rows[0],
        "\\midrule",
    ]
    return "\n".join([*head, *rows[1:], "\\bottomrule", "\\end{tabular}", ""])


def claims_csv(judged: Sequence[JudgedClaim]) -> str:
    """Everything, rules included, for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CLAIM_FIELDS)
    writer.writerows([field(one) for field in CLAIM_FIELDS.values()] for one in judged)
    return out.getvalue()


def _cells(one: JudgedClaim) -> tuple[str, ...]:
    return f"{one.claim.id} {one.claim.text}", one.claim.paper, one.ours, one.verdict
