"""What two studies measured besides their runs, as one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from metaformer.core.records import Record
from metaformer.report.study.load import LoadedStudy

R = TypeVar("R")
T = TypeVar("T")


def merged_extras(first: LoadedStudy, second: LoadedStudy, names: Mapping[str, str]) -> dict[str, Any]:
    """Scaling, speed and tuning of both: where both have one, the rows that only the second has are added."""

    def renamed(one: T) -> T:
        name = getattr(one, "name")  # noqa: B009 (each of them has one)
        return replace(one, name=names.get(name, name))  # type: ignore[type-var]

    speed = second.speed and _with(second.speed, variants=tuple(map(renamed, second.speed.measured.variants)))
    tuning = second.tuning and _with(second.tuning, variants=tuple(map(renamed, second.tuning.measured.variants)))
    return {
        "scaling": _added(first.scaling, second.scaling, "series", lambda one: (one.name, one.level)),
        "speed": _added(first.speed, speed, "variants", lambda one: one.name),
        "tuning": _added(first.tuning, tuning, "variants", lambda one: one.name),
    }


def _with(record: Record[R], **changes: Any) -> Record[R]:
    return replace(record, result=replace(record.measured, **changes))  # type: ignore[type-var]


def _added(one: Record[R] | None, other: Record[R] | None, rows: str, key: Callable[[Any], object]) -> Record[R] | None:
    if one is None or other is None:
        return one or other
    here: tuple[Any, ...] = getattr(one.measured, rows)
    known = {key(row) for row in here}
    there: Iterable[Any] = getattr(other.measured, rows)
    changes: dict[str, Any] = {rows: (*here, *(row for row in there if key(row) not in known))}
    # How busy the busier of the two machines was.
    shares = [share for record in (one, other) if (share := getattr(record.measured, "cpu_share", None)) is not None]
    return _with(one, **changes, **({"cpu_share": min(shares)} if shares else {}))
