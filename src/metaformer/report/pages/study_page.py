"""The page of a study."""

from collections.abc import Sequence
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any

from metaformer.core.records import Record, Scaling, Speed
from metaformer.report.claims.claims import UNTESTED, JudgedClaim, is_tested
from metaformer.report.claims.evidence import QUIET
from metaformer.report.claims.tables import claims_csv
from metaformer.report.number_text import count, is_png, listed, plain, with_half_width
from metaformer.report.pages.html import PAGE_FILE, asset, render, script_json, write_page
from metaformer.report.stats import statistics
from metaformer.report.study import provenance
from metaformer.report.study.panels import COSTS, study_panels
from metaformer.report.study.report import StudyReport
from metaformer.report.study.row import Row
from metaformer.report.study.summary import spread_of
from metaformer.report.study.table import columns, difference_number, seeds_hint, to_csv, to_latex, to_markdown
from metaformer.report.study.tuned_rows import tuned_rows

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


def write_study_page(report: StudyReport) -> Path:
    """Writes `report.html` into the folder of a study; of two, `report-with-OTHER.html` into that of the first.

    Raises:
        DataError: The page cannot be written.
    """
    name = f"report-with-{report.compared_names[1]}.html" if report.compared_names[1] else PAGE_FILE
    return write_page(report.folder / name, study_html(report))


def study_html(report: StudyReport) -> str:
    """The page as text."""
    study, rows = report.study, list(report.rows)
    scaling = study.scaling.measured if study.scaling else None
    panels = study_panels(rows, class_names=_class_names(report), scaling=scaling)
    return render("study.html.j2", charts=panels, records=report.records, **_context(report, list(panels)))


def _context(report: StudyReport, figures: list[str]) -> dict[str, Any]:
    study, rows, judged = report.study, list(report.rows), report.claims
    places = provenance.places(study)
    return {
        "study": study,
        "rows": rows,
        "base": report.base,
        "answer": report.answer,
        "columns": columns(rows),
        "curve_names": [name for name in figures if name.startswith("curve-")],
        "cost_names": [name for name in COSTS if name in figures],
        "cost_titles": {name: cost.title for name, cost in COSTS.items()},
        "scaling_names": [name for name in figures if name.startswith("scaling-")],
        "scaling": study.scaling.measured if study.scaling else None,
        "speed": study.speed.measured if study.speed else None,
        "busy": [_busy(record) for record in (study.speed, study.scaling) if record and _busy(record)],
        "claims": judged if is_tested(judged) else [],
        "claims_sentence": claims_sentence(judged),
        "tuned": tuned_rows(study, rows),
        "tuning_seed": study.tuning.seed if study.tuning else None,
        "compared": report.compared,
        "compared_names": report.compared_names,
        "controls": [row.title for row in rows if row.control],
        "precision": _precision(rows),
        "picture": f"data:image/png;base64,{png}" if (png := study.about.samples_png) and is_png(png) else None,
        "runs": provenance.all_runs(study),
        "duration": provenance.duration(study),
        "base_config": provenance.base_config(study),
        "differences": provenance.config_differences(study),
        "places": places,
        "same_speed": provenance.same_speed(places),
        "problems": provenance.problems(study, rows),
        "block_svg": asset("block.svg"),
        **NUMBERS_AS_TEXT,
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


def _busy(record: Record[Scaling] | Record[Speed]) -> str:
    """The measurement's own share of the time, where something else took too much of it."""
    share = record.measured.cpu_share
    return f"{record.kind} ({share:.0%})" if share is not None and share < QUIET else ""


def _class_names(report: StudyReport) -> Sequence[str]:
    return next((run.result.class_names for run in provenance.all_runs(report.study) if run.result), ())


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
