"""`metaformer report`: the page of whatever a folder holds, from the records."""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from metaformer.report.claims.claims import is_tested
from metaformer.report.claims.tables import claims_rich_table
from metaformer.report.pages.study_page import claims_sentence
from metaformer.report.report import Report
from metaformer.report.report import report as make_report
from metaformer.report.study.report import StudyReport
from metaformer.report.study.table import rich_table


def report(
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")],
    others: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[OTHER ...]")] = (),
    /,
    *,
    export: Path | None = None,
    extract: Path | None = None,
) -> int:
    """Makes the page of a study, of trainings, an analysis, a bench or a card again; reads nothing but records.

    With a second folder it compares two studies: rows of the same settings join their runs, others stand side by side.
    Trainings stand on one page however many they are.

    Args:
        folder: What '--out' named: a study, as runs/quick, a training, an analysis, a bench, or a card. With --extract
            a page.
        others: Another study, or other trainings.
        export: A folder for tables and charts as files. Of a study: table and claims as CSV, Markdown and LaTeX, charts
            as SVG and PNG. Of trainings: table and epochs as CSV, the table as Markdown too, curves as SVG and PNG.
        extract: A folder for the records that a page embeds.
    """
    made = make_report(folder, others, export=export, extract=extract)
    show_report(Console(), made)
    place = export or extract
    if place is not None:
        Console().print(f"{len(made.files)} files in {place.resolve()}", soft_wrap=True, highlight=False, markup=False)
    if made.why_no_pictures:
        Console().print(f"no pictures: {made.why_no_pictures}.", soft_wrap=True, highlight=False, markup=False)
    return 1 if made.why_no_pictures else 0


def show_report(console: Console, made: Report) -> None:
    """Prints the tables and the answer of a study, the line to quote of a card, and where the page is."""
    if made.study:
        _show_study(console, made.study)
    if made.quote:
        console.print(made.quote, soft_wrap=True, highlight=False, markup=False)
        console.print()
    if made.page:
        what = "card" if made.quote else "page"
        console.print(f"{what}: {made.page.resolve()}", soft_wrap=True, highlight=False, markup=False)


def _show_study(console: Console, loaded: StudyReport) -> None:
    console.print(rich_table(loaded.rows))
    if is_tested(loaded.claims):
        console.print(claims_rich_table(loaded.claims))
        console.print(claims_sentence(loaded.claims), soft_wrap=True, highlight=False, markup=False)
    console.print(loaded.answer, soft_wrap=True, highlight=False, markup=False)
    console.print()
