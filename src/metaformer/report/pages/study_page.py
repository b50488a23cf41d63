"""One HTML file that shows a study: it opens offline, and loads nothing."""

import json
from collections.abc import Sequence
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import MissingExtraError
from metaformer.core.records import Record, Scaling, Speed
from metaformer.report.charts.charts import charts
from metaformer.report.charts.tradeoff import COSTS
from metaformer.report.claims.claims import UNTESTED, JudgedClaim, is_tested, judge_claims
from metaformer.report.claims.evidence import QUIET
from metaformer.report.claims.tables import claims_csv
from metaformer.report.number_text import count, listed, plain, with_half_width
from metaformer.report.pages.table import columns, difference_number, seeds_hint, to_csv, to_latex, to_markdown
from metaformer.report.stats import statistics
from metaformer.report.study import provenance
from metaformer.report.study.load import LoadedStudy, load_study
from metaformer.report.study.merging import Change, changes, merge
from metaformer.report.study.row import Row
from metaformer.report.study.sample_picture import sample_picture
from metaformer.report.study.summary import base_of, headline, spread_of, summarize
from metaformer.report.study.tuned_rows import tuned_rows

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs
except ImportError:
    raise MissingExtraError(need="the HTML page", extra="report") from None

VERDICT_WORDS = (
    ("holds", "holds", "hold"),
    ("contradicted", "is contradicted", "are contradicted"),
    ("not told apart", "is open", "are open"),
)
# What the template calls.
NUMBERS_AS_TEXT = {
    "plain": plain,
    "with_half_width": with_half_width,
    "difference_number": difference_number,
    "seeds_hint": seeds_hint,
    "count": count,
}
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


def write_comparison(first: Path, second: Path) -> Path:
    """Writes the page of two studies together into the folder of the first.

    Raises:
        DataError: One of the folders is not a study, or they cannot be compared.
    """
    one, other = load_study(first), load_study(second)
    merged = merge(one, other)
    both = merged.study
    target = Path(first) / f"report-with-{other.folder.resolve().name}.html"
    names = (one.folder.resolve().name, other.folder.resolve().name)
    write_text(target, render(both, summarize(both), compared=changes(merged), compared_names=names))
    return target


def render(
    study: LoadedStudy, rows: list[Row], *, compared: Sequence[Change] = (), compared_names: tuple[str, str] = ("", "")
) -> str:
    """The page as text.

    Args:
        study: One study, or two merged.
        rows: As `summarize` returns them.
        compared: What differs between two studies that were merged, row by row.
        compared_names: Their names.
    """
    return (
        environment()
        .get_template("study.html.j2")
        .render(_context(study, rows) | {"compared": compared, "compared_names": compared_names})
    )


def environment() -> Environment:
    """Templates, with everything escaped that is not marked as safe."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        # The templates end in .j2, which Jinja's own choice by file name would leave unescaped.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(study: LoadedStudy, rows: list[Row]) -> dict[str, Any]:
    scaling, speed, tuning = study.scaling, study.speed, study.tuning
    figures = charts(rows, class_names=_class_names(study), scaling=scaling.measured if scaling else None)
    judged = judge_claims(study, rows)
    places = provenance.places(study)
    runs = provenance.all_runs(study)
    return {
        "study": study,
        "rows": rows,
        "base": base_of(rows),
        "answer": headline(rows, data=study.data.title),
        "columns": columns(rows),
        "charts": figures,
        "curve_names": [name for name in figures if name.startswith("curve-")],
        "cost_names": [name for name in COSTS if name in figures],
        "cost_titles": {name: cost.title for name, cost in COSTS.items()},
        "scaling_names": [name for name in figures if name.startswith("scaling-")],
        "scaling": scaling and scaling.measured,
        "speed": speed and speed.measured,
        "busy": [f"{record.kind} ({share:.0%})" for record in (speed, scaling) if record and (share := _busy(record))],
        "claims": judged if is_tested(judged) else [],
        "claims_sentence": claims_sentence(judged),
        "tuned": tuned_rows(study, rows),
        "tuning_seed": tuning.seed if tuning else None,
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
        "css": asset("page.css"),
        "block_svg": asset("block.svg"),
        "page_js": asset("page.js"),
        "plotly_js": Markup(get_plotlyjs()),
        "charts_json": script_json({name: _bare(figure) for name, figure in figures.items()}),
        **NUMBERS_AS_TEXT,
        **_downloads(study, rows, judged),
    }


def _downloads(study: LoadedStudy, rows: list[Row], judged: Sequence[JudgedClaim]) -> dict[str, Markup]:
    return {
        "records_json": script_json(_records(study)),
        "csv_json": script_json(to_csv(rows)),
        "markdown_json": script_json(to_markdown(rows)),
        "latex_json": script_json(to_latex(rows)),
        "claims_json": script_json(claims_csv(judged)),
    }


def claims_sentence(judged: Sequence[JudgedClaim]) -> str:
    """How many claims hold, as one sentence."""
    tested = [one for one in judged if one.verdict != UNTESTED]
    if not tested:
        return "None of the paper's claims can be tested by this study."
    parts = []
    for verdict, one_does, more_do in VERDICT_WORDS:
        ids = [one.claim.id for one in tested if one.verdict == verdict]
        if ids:
            parts.append(f"{len(ids)} {one_does if len(ids) == 1 else more_do} ({listed(ids)})")
    return f"Of {len(judged)} claims, {len(tested)} can be tested here: {listed(parts)}."


def _busy(record: Record[Scaling] | Record[Speed]) -> float | None:
    """The measurement's own share of the time, where something else took too much of it."""
    share = record.measured.cpu_share
    return share if share is not None and share < QUIET else None


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


def asset(name: str) -> Markup:
    """A file of the page, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _class_names(study: LoadedStudy) -> list[str]:
    return next((list(run.result.class_names) for run in provenance.all_runs(study) if run.result), [])


def _precision(rows: list[Row]) -> dict[str, Any]:
    """What the intervals of this study rest on."""
    spread, titles = spread_of(rows).rows, {row.name: row.title for row in rows}
    deviations = sorted(((titles[name], one.value**0.5) for name, one in spread.variances.items()), key=itemgetter(1))
    return {
        "common": spread.common,
        "common_df": count(spread.common.df) if spread.common and isfinite(spread.common.df) else "",
        "lowest": deviations[0] if deviations else None,
        "highest": deviations[-1] if deviations else None,
        "wide": [titles[name] for name in spread.wide],
        "num_comparable": len(spread.variances),
        "num_tests": sum(row.p is not None for row in rows),
        "min_seeds": statistics.MIN_SEEDS,
        "alone": [row.title for row in rows if not row.comparable],
    }


def _records(study: LoadedStudy) -> dict[str, Any]:
    """Every record that the page is made of."""
    return {
        "study": study.record.to_json(),
        "runs": [run.to_json() for run in provenance.all_runs(study)],
        "extras": {one.kind: one.to_json() for one in (study.scaling, study.speed, study.tuning) if one},
        "tuned": _records(study.tuned) if study.tuned else None,
    }
