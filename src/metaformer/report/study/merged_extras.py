"""What two studies measured besides their runs, as one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from metaformer.core.run_record import RunRecord
from metaformer.report.study.load import Study


def merged_extras(first: Study, second: Study, names: Mapping[str, str]) -> dict[str, RunRecord]:
    """What else was measured. Where both have it, the rows that only the second has are added."""
    merged = dict(first.extras)
    for kind, record in second.extras.items():
        key = "series" if kind == "scaling" else "variants"
        # Series are of mixers, which both studies call the same; variants may be marked.
        rows = [
            row | {"name": names.get(row["name"], row["name"])} if key == "variants" else row
            for row in _listed(record, key)
        ]
        if kind not in merged:
            merged[kind] = replace(record, labels=record.labels | {key: rows})
            continue
        here = _listed(merged[kind], key)
        known = {(row["name"], row.get("level")) for row in here}
        added = [row for row in rows if (row["name"], row.get("level")) not in known]
        merged[kind] = replace(
            merged[kind], labels=merged[kind].labels | {key: [*here, *added]} | _share(merged[kind], record)
        )
    return merged


def _listed(record: RunRecord, key: str) -> list[dict[str, Any]]:
    rows = record.labels.get(key)
    return [row for row in rows if isinstance(row, dict) and "name" in row] if isinstance(rows, list) else []


def _share(one: RunRecord, other: RunRecord) -> dict[str, Any]:
    """The lower of the two shares that say how busy the machines were."""
    shares = [share for record in (one, other) if isinstance(share := record.labels.get("cpu_share"), float)]
    return {"cpu_share": min(shares)} if shares else {}
