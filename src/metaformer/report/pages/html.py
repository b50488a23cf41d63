"""What all pages share: one file that opens offline, loads nothing, and carries the records that it is made of."""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import DataError, MissingExtraError
from metaformer.core.measurement import Panel
from metaformer.core.records import Record
from metaformer.report.charts.draw import figure_json

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs
except ImportError:
    raise MissingExtraError(need="the HTML page", extra="report") from None

PAGE_FILE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
Records = Mapping[str, Record[Any]]  # folder below that of the page -> the record in it


def render(template: str, *, charts: Mapping[str, Panel], records: Records, **context: Any) -> str:
    """A page as text.

    Args:
        template: A file of the templates.
        charts: Id of a place on the page -> the panel that is drawn there.
        records: Everything that the page is computed from.
        context: What else the template names.
    """
    drawn = {name: figure for name, panel in charts.items() if (figure := figure_json(panel)) is not None}
    embedded = [{"folder": folder, "record": record.to_json()} for folder, record in records.items()]
    text: str = (
        _environment()
        .get_template(template)
        .render(
            **context,
            charts=drawn,
            css=asset("page.css"),
            page_js=asset("page.js"),
            plotly_js=Markup(get_plotlyjs()) if drawn else "",
            charts_json=script_json(drawn),
            records_json=script_json(embedded),
        )
    )
    # Half of a pair of surrogates, which JSON can hold and UTF-8 cannot.
    return text.encode("utf-8", errors="replace").decode()


def write_page(target: Path, text: str) -> Path:
    """Writes a page, whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        write_text(target, text)
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}.") from None
    return target


def _environment() -> Environment:
    """Templates, with everything escaped that is not marked as safe."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        # The templates end in .j2, which Jinja's own choice by file name would leave unescaped.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _printable(value: Any) -> Any:
    """Text without characters that have no shape, but for line breaks: a browser may take them for anything."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in value)


def asset(name: str) -> Markup:
    """A file of the page, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def script_json(values: Any) -> Markup:
    """JSON that cannot end the script element it stands in.

    NaN becomes null: it is no JSON, though Python's own reader lets it pass.
    """
    try:
        text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_without_nan(values), ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _without_nan(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not isfinite(values) else values
