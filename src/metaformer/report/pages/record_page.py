"""The page of any record: its measurements one after another, drawn without knowing what they are about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from metaformer.core.measurement import PANELS, Measurement, Panel, Table
from metaformer.core.records import Analysis, Record
from metaformer.report.number_text import NOTHING, cell, is_png
from metaformer.report.pages.html import render, write_page
from metaformer.report.study.provenance import places_of

Cell = str | float | None


@dataclass(frozen=True, kw_only=True)
class RecordPage:
    """What a page shows, besides where its records were made."""

    title: str
    kind: str  # of its records
    measurements: tuple[Measurement, ...]
    records: Mapping[str, Record[Any]]  # as they lie below the folder of the page
    quote: str = ""  # one line to quote
    intro: str = ""
    alerts: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # address and text

    @property
    def commands(self) -> tuple[str, ...]:
        """That made the records, each once."""
        return tuple(dict.fromkeys(record.command for record in self.records.values() if record.command))

    @property
    def file_name(self) -> str:
        """For files that the page saves."""
        return "".join(one if one.isalnum() or one in "-_." else "-" for one in self.title)[:80]


def panels_by_id(page: RecordPage) -> dict[str, Panel]:
    """The id of its place on the page -> each panel."""
    return {
        f"panel-{section}-{number}": panel
        for section, one in enumerate(page.measurements, 1)
        for number, panel in enumerate(one.panels, 1)
    }


def record_html(page: RecordPage) -> str:
    """The page as text."""
    return render(
        "record.html.j2",
        charts=panels_by_id(page),
        records=page.records,
        page=page,
        places=places_of(list(page.records.values())),
        kind_of=lambda panel: PANELS.name_of(type(panel)),
        is_number_column=_is_number_column,
        cell_text=_cell_text,
        is_png=is_png,
    )


def write_record_page(page: RecordPage, target: Path) -> Path:
    """Writes the page.

    Raises:
        DataError: It cannot be written.
    """
    return write_page(target, record_html(page))


def analysis_page(record: Record[Analysis]) -> RecordPage:
    """What probes found, each as it answered its question."""
    about = record.measured
    skipped = [(one.probe, one.reason) for one in about.skipped]
    rows: tuple[tuple[Cell, ...], ...] = tuple(skipped)
    left_out = Measurement(
        name="skipped",
        question="What could not be measured?",
        finding="",
        panels=(Table(title="Probes that were left out", columns=("Probe", "Why"), rows=rows),),
    )
    return RecordPage(
        title=", ".join(about.models) or record.name,
        kind=record.kind,
        intro=f"Measured on {about.num_images} images of {about.data}.",
        measurements=(*about.measurements, *((left_out,) if skipped else ())),
        records={"": record},
    )


def plain_page(record: Record[Any]) -> RecordPage:
    """Of a record without measurements of its own: its numbers, and its tables."""
    result = record.measured
    single = [(_words(one.name), _plain(getattr(result, one.name))) for one in fields(result)]
    facts = tuple((name, value) for name, value in single if value is not None)
    panels = [Table(title="Numbers", columns=("", "Value"), rows=facts)]
    for one in fields(result):
        value = getattr(result, one.name)
        if isinstance(value, tuple) and value and hasattr(value[0], "__dataclass_fields__"):
            panels.append(_table(_words(one.name), value))
    measured = Measurement(name=record.kind, question="Result", finding="", panels=tuple(panels))
    return RecordPage(title=record.name, kind=record.kind, measurements=(measured,), records={"": record})


def _table(title: str, rows: Sequence[Any]) -> Table:
    shown = [one.name for one in fields(rows[0]) if any(_plain(getattr(row, one.name)) is not None for row in rows)]
    cells = tuple(tuple(_plain(getattr(row, name)) for name in shown) for row in rows)
    return Table(title=title, columns=tuple(map(_words, shown)), rows=cells)


def _plain(value: Any) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return float(value)
    return value if isinstance(value, str) and value else None


def _words(name: str) -> str:
    return (
        name.replace("_percent", " (%)")
        .replace("_ms", " (ms)")
        .replace("_mib", " (MiB)")
        .replace("_", " ")
        .capitalize()
    )


def _is_number_column(table: Table, index: int) -> bool:
    values = [row[index] for row in table.rows if row[index] is not None]
    return index > 0 and bool(values) and all(isinstance(value, int | float) for value in values)


def _cell_text(table: Table, value: Cell, index: int) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else cell(value, table.digits[index] if table.digits else 4)
