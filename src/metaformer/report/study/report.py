"""A study, loaded and judged once: all that its page, tables and files show."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaformer.core.records import Record
from metaformer.report.claims.claims import JudgedClaim, judge_claims
from metaformer.report.study.load import LoadedStudy, load_study
from metaformer.report.study.merging import Change, changes, merge
from metaformer.report.study.row import Row
from metaformer.report.study.summary import base_of, headline, summarize


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """One study, or two as one."""

    folder: Path  # of the first
    study: LoadedStudy
    rows: tuple[Row, ...]
    claims: tuple[JudgedClaim, ...]
    compared: tuple[Change, ...] = ()  # rows that two studies have with other settings
    compared_names: tuple[str, str] = ("", "")
    records: Mapping[str, Record[Any]]  # as they lie in their folders

    @property
    def base(self) -> Row:
        return base_of(list(self.rows))

    @property
    def answer(self) -> str:
        """What was found, in a sentence."""
        return headline(self.rows, data=self.study.data.title)


def load_report(folder: Path, other: Path | None = None) -> StudyReport:
    """Reads one study, or two to compare, and judges it.

    Raises:
        DataError: A folder is not a study, or the two cannot be compared.
    """
    first = load_study(folder)
    if other is None:
        return _judged(first, _records(first))
    second = load_study(other)
    merged = merge(first, second)
    names = (first.folder.resolve().name, second.folder.resolve().name)
    places = names if names[0] != names[1] else (names[0], f"{names[1]}-2")
    records = {
        f"{place}/{path}" if path else place: record
        for place, study in zip(places, (first, second), strict=True)
        for path, record in _records(study).items()
    }
    return _judged(merged.study, records, compared=tuple(changes(merged)), compared_names=names)


def _judged(study: LoadedStudy, records: Mapping[str, Record[Any]], **more: Any) -> StudyReport:
    rows = summarize(study)
    claims = tuple(judge_claims(study, rows))
    return StudyReport(folder=study.folder, study=study, rows=tuple(rows), claims=claims, records=records, **more)


def _records(study: LoadedStudy) -> dict[str, Record[Any]]:
    """Folder below that of the study -> the record in it."""
    found: dict[str, Record[Any]] = {"": study.record}
    found |= {f"{name}/seed{seed}": run for name, runs in study.runs.items() for seed, run in runs.items()}
    extras = (study.scaling, study.speed, study.tuning)
    found |= {record.kind: record for record in extras if record}
    if study.tuned:
        found |= {f"tuned/{path}" if path else "tuned": record for path, record in _records(study.tuned).items()}
    return found
