"""One HTML file that shows a study: it opens offline, and loads nothing."""

import json
from pathlib import Path
from typing import Any

from metaformer.core.atomic_write import write_text
from metaformer.core.configs import to_dict
from metaformer.core.errors import MissingExtraError
from metaformer.report import provenance, statistics
from metaformer.report.charts import charts
from metaformer.report.number_text import count, plain
from metaformer.report.records import Study, load_study
from metaformer.report.row import Row
from metaformer.report.sample_picture import sample_picture
from metaformer.report.summary import base_of, headline, summarize
from metaformer.report.table import columns, difference_number, seeds_hint, to_csv

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs
except ImportError:
    raise MissingExtraError(need="the HTML page", extra="report") from None

PAGE_FILE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"


def write_page(folder: Path) -> Path:
    """Writes `report.html` into a study folder, from the records in it.

    Raises:
        DataError: The folder is not a study.
        MissingExtraError: plotly or Jinja2 is not installed (already when this module is imported).
    """
    folder = Path(folder)
    study = load_study(folder)
    target = folder / PAGE_FILE
    write_text(target, render(study, summarize(study)))
    return target


def render(study: Study, rows: list[Row]) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        # The template ends in .j2, which Jinja's own choice by file name would leave unescaped.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("study.html.j2").render(_context(study, rows))


def _context(study: Study, rows: list[Row]) -> dict[str, Any]:
    figures = charts(rows, class_names=_class_names(study))
    places = provenance.places(study)
    runs = provenance.all_runs(study)
    return {
        "study": study,
        "rows": rows,
        "base": base_of(rows),
        "answer": headline(rows, data=study.data_title),
        "columns": columns(rows),
        "charts": figures,
        "curve_names": [name for name in figures if name.startswith("curve-")],
        "controls": [row.title for row in rows if row.control],
        "precision": _precision(rows),
        "picture": sample_picture(study),
        "runs": runs,
        "duration": provenance.duration(study),
        "base_config": provenance.base_config(study),
        "differences": provenance.config_differences(study),
        "places": places,
        "same_speed": provenance.same_speed(places),
        "problems": provenance.problems(study, rows),
        "plain": plain,
        "difference_number": difference_number,
        "seeds_hint": seeds_hint,
        "count": count,
        "css": _asset("page.css"),
        "block_svg": _asset("block.svg"),
        "page_js": _asset("page.js"),
        "plotly_js": Markup(get_plotlyjs()),
        "charts_json": script_json({name: _bare(figure) for name, figure in figures.items()}),
        "records_json": script_json({"study": to_dict(study.record), "runs": [to_dict(run) for run in runs]}),
        "csv_json": script_json(to_csv(rows)),
    }


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
    is_bad = isinstance(values, float) and (values != values or values in (float("inf"), float("-inf")))
    return None if is_bad else values


def _bare(figure: Any) -> dict[str, Any]:
    drawn = figure.to_plotly_json()
    return {
        "data": drawn["data"],
        "layout": {key: value for key, value in drawn["layout"].items() if key != "template"},
    }


def _asset(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _class_names(study: Study) -> list[str]:
    names = next((run.labels.get("class_names") for run in provenance.all_runs(study)), None)
    return [str(name) for name in names] if isinstance(names, list) else []


def _precision(rows: list[Row]) -> dict[str, Any]:
    """What the intervals of this study rest on."""
    comparable = [row for row in rows if row.comparable]
    pooled = statistics.pooled_variance([list(row.values.values()) for row in comparable])
    residual = statistics.residual_variance({row.name: row.values for row in comparable if row.values})
    return {
        "pooled": pooled,
        "residual": residual,
        "num_comparable": len(comparable),
        "num_tests": sum(row.p is not None for row in rows),
        "alone": [row.title for row in rows if not row.comparable],
    }
