"""`metaformer report`: the page of a study, from its records."""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from metaformer.report.page import write_page
from metaformer.report.records import load_study
from metaformer.report.summary import headline, summarize
from metaformer.report.table import rich_table


def report(folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")], /) -> int:
    """Makes the table and the page of a study again; reads nothing but its run records.

    Args:
        folder: What '--out' named, for instance runs/quick.
    """
    show_report(Console(), folder)
    return 0


def show_report(console: Console, folder: Path) -> None:
    """Prints the study's table and answer, and writes its page."""
    study = load_study(folder)
    rows = summarize(study)
    console.print(rich_table(rows))
    console.print(headline(rows, data=study.data_title), soft_wrap=True, highlight=False)
    page = write_page(folder)
    console.print(f"\npage: {page.resolve()}", soft_wrap=True, highlight=False)
