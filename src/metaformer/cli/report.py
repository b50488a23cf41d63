"""`metaformer report`: the page of a study, or of two, from the records."""

from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from metaformer.core.errors import ConfigError
from metaformer.core.records import RUN_FILE, Record, read_record
from metaformer.report.claims.claims import is_tested, judge_claims
from metaformer.report.claims.tables import claims_rich_table
from metaformer.report.pages.bench_page import write_bench_page
from metaformer.report.pages.card_page import load_card, quote, write_card
from metaformer.report.pages.export_files import export as export_files
from metaformer.report.pages.study_page import claims_sentence, write_comparison, write_page
from metaformer.report.pages.table import rich_table
from metaformer.report.pages.training_export import export_trainings
from metaformer.report.pages.training_page import write_training_page
from metaformer.report.study.load import LoadedStudy, load_study
from metaformer.report.study.merging import merge
from metaformer.report.study.summary import headline, summarize


def report(
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")],
    others: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[OTHER ...]")] = (),
    /,
    *,
    export: Path | None = None,
) -> int:
    """Makes the page of a study, of trainings, of a bench or a card again; reads nothing but run records.

    With a second folder it compares two studies: rows of the same settings join their runs, others stand side by side.
    Trainings stand on one page however many they are.

    Args:
        folder: What '--out' named: a study, as runs/quick, a training, a bench, or a card.
        others: Another study, or other trainings.
        export: A folder for tables and charts as files. Of a study: table and claims as CSV, Markdown and LaTeX, charts
            as SVG and PNG. Of trainings: table and epochs as CSV, the table as Markdown too, curves as SVG.
    """
    console = Console()
    kind = _kind(folder)
    if export is not None and export.exists() and not export.is_dir():
        raise ConfigError(f"--export must be a folder; {export} is a file.")
    if kind == "training":
        return _report_trainings(console, [folder, *others], export)
    if len(others) > 1:
        raise ConfigError(f"studies are compared two at a time; got {1 + len(others)} folders.")
    if kind in ("card", "bench") and not others:
        if export is not None:
            raise ConfigError(f"--export is for studies and trainings; {folder} holds a {kind}.")
        if kind == "card":
            show_card(console, folder)
        else:
            _say_page(console, write_bench_page(folder))
        return 0
    if others:
        study = merge(load_study(folder), load_study(others[0])).study
        _show(console, study, write_comparison(folder, others[0]))
    else:
        study = show_report(console, folder)
    return 0 if export is None else _export(console, study, export)


def _report_trainings(console: Console, folders: list[Path], export: Path | None) -> int:
    _say_page(console, write_training_page(folders))
    if export is not None:
        files = export_trainings(folders, export)
        console.print(f"{len(files)} files in {export.resolve()}", soft_wrap=True, highlight=False)
    return 0


def _say_page(console: Console, page: Path) -> None:
    console.print(f"page: {page.resolve()}", soft_wrap=True, highlight=False)


def _export(console: Console, study: LoadedStudy, folder: Path) -> int:
    files, why_none = export_files(study, folder)
    console.print(f"{len(files)} files in {folder.resolve()}", soft_wrap=True, highlight=False)
    if why_none:
        console.print(f"no pictures: {why_none}.", soft_wrap=True, highlight=False)
    return 1 if why_none else 0


def _kind(folder: Path) -> str:
    """Of the folder's own record; "" where there is none, which whoever reads it next explains."""
    if not (folder / RUN_FILE).is_file():
        return ""
    record: Record[Any] = read_record(folder)
    return record.kind


def show_report(console: Console, folder: Path) -> LoadedStudy:
    """Prints the study's table, claims and answer, and writes its page."""
    study = load_study(folder)
    _show(console, study, write_page(folder))
    return study


def show_card(console: Console, folder: Path) -> None:
    """Prints the line to quote from a mixer's card, and writes its page."""
    page = write_card(folder)
    console.print(quote(load_card(folder)), soft_wrap=True, highlight=False)
    console.print(f"\ncard: {page.resolve()}", soft_wrap=True, highlight=False)


def _show(console: Console, study: LoadedStudy, page: Path) -> None:
    rows = summarize(study)
    console.print(rich_table(rows))
    judged = judge_claims(study, rows)
    if is_tested(judged):
        console.print(claims_rich_table(judged))
        console.print(claims_sentence(judged), soft_wrap=True, highlight=False)
    console.print(headline(rows, data=study.data.title), soft_wrap=True, highlight=False)
    console.print()
    _say_page(console, page)
