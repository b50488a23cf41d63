"""`report`: the page of whatever a folder holds, from its records alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import RUN_FILE, Record, read_record
from metaformer.report.pages.bench_page import bench_page
from metaformer.report.pages.card_page import CARD_FILE, card_page, load_card, quote
from metaformer.report.pages.export_files import export_study, export_trainings
from metaformer.report.pages.extract import extract_records
from metaformer.report.pages.html import PAGE_FILE
from metaformer.report.pages.record_page import RecordPage, analysis_page, plain_page, write_record_page
from metaformer.report.pages.study_page import write_study_page
from metaformer.report.pages.trainings import load_trainings, trainings_page
from metaformer.report.study.report import StudyReport, load_report


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was made, and what of it is worth printing."""

    page: Path | None = None  # None: records were extracted
    files: tuple[Path, ...] = ()  # exported or extracted
    why_no_pictures: str = ""  # of an export
    study: StudyReport | None = None
    quote: str = ""  # of a card


def report(
    folder: Path, others: Sequence[Path] = (), *, export: Path | None = None, extract: Path | None = None
) -> Report:
    """Makes the page of a study, of trainings, of an analysis, a bench, a card or any other record again.

    Args:
        folder: What holds the record; or, to extract, a page.
        others: Another study to compare with, or any number of other trainings to stand beside.
        export: A folder for tables and charts of a study or of trainings as files.
        extract: A folder for the records that the page embeds.

    Raises:
        ConfigError: What is asked for does not go together.
        DataError: A folder holds nothing that can be shown, or something cannot be written.
    """
    if extract is not None:
        if others or export is not None:
            raise ConfigError("--extract takes one page, and no --export.")
        return Report(files=tuple(extract_records(folder, extract)))
    if export is not None and export.exists() and not export.is_dir():
        raise ConfigError(f"--export must be a folder; {export} is a file.")
    record = _record_of(folder)
    kind = record.kind if record else ""
    if kind == "training":
        return _trainings([folder, *others], export)
    if len(others) > 1:
        raise ConfigError(f"studies are compared two at a time; got {1 + len(others)} folders.")
    if record is None or kind == "study" or others:
        return _study(folder, others[0] if others else None, export)
    if export is not None:
        raise ConfigError(f"--export is for studies and trainings; {folder} holds a record of kind {kind!r}.")
    if kind == "card":
        return _card(folder)
    return Report(page=write_record_page(_page_of(record), folder / PAGE_FILE))


def _record_of(folder: Path) -> Record[Any] | None:
    """The folder's own record; None where there is none, which whoever reads it next explains."""
    if folder.suffix == ".html" and folder.is_file():
        raise ConfigError(f"{folder} is a page. To take its records out, add --extract FOLDER.")
    try:
        return read_record(folder) if (folder / RUN_FILE).is_file() else None
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}.") from None


def _page_of(record: Record[Any]) -> RecordPage:
    makers: dict[str, Any] = {"analysis": analysis_page, "bench": bench_page}
    page: RecordPage = makers.get(record.kind, plain_page)(record)
    return page


def _study(folder: Path, other: Path | None, export: Path | None) -> Report:
    loaded = load_report(folder, other)
    page = write_study_page(loaded)
    files, why_none = export_study(loaded, export) if export is not None else ([], "")
    return Report(page=page, files=tuple(files), why_no_pictures=why_none, study=loaded)


def _trainings(folders: Sequence[Path], export: Path | None) -> Report:
    trainings = load_trainings(folders)
    made = trainings_page(trainings, folders)
    others = "-".join(Path(folder).resolve().name for folder in folders[1:])
    page = write_record_page(made, folders[0] / (f"report-with-{others}.html" if others else PAGE_FILE))
    files, why_none = export_trainings(trainings, made, export) if export is not None else ([], "")
    return Report(page=page, files=tuple(files), why_no_pictures=why_none)


def _card(folder: Path) -> Report:
    card = load_card(folder)
    write_study_page(card.report)
    return Report(page=write_record_page(card_page(card), folder / CARD_FILE), quote=quote(card))
