"""The campaign of hostile input: each test tries many things of some kinds; a table of all kinds ends the run.

A test asks for `tries`, and calls `tries(kind)` for the counter of a kind:

    def test_weights_of_strangers(tries, tmp_path):
        sparse = tries("weights: sparse tensors")
        for name, path in make_sparse(tmp_path, seed=0):
            sparse.run(name, lambda path=path: read_weights(path))

A try is right when it gives a result or one of our errors in one line, in time; `note` counts what a test judged by
itself. The test fails at its end when one of its tries was wrong.
"""

import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from metaformer.core.errors import ConfigError, DataError, MissingExtraError, ShapeError, StoppedError

OURS = (ConfigError, DataError, ShapeError, MissingExtraError, StoppedError)
LIMIT_S = 15.0  # of one try; the campaign's machines are busy
PROPERTY = "hostile tries"


class Tries:
    """The tries of one kind, counted."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.num_tried = 0
        self.wrong: list[str] = []

    def run(self, what: str, call: Callable[[], Any], *, limit_s: float = LIMIT_S) -> Any:
        """Calls; returns the result, or the error where it is one of ours."""
        started, said = time.perf_counter(), ""
        try:
            result = call()
        except OURS as error:
            result = error
            lines = str(error).splitlines()
            said = "" if len(lines) == 1 and lines[0].isprintable() else f"not one printable line: {error!r}"
        # Whatever else it is, the user would see a traceback.
        except Exception as error:
            result, last = error, traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
        seconds = time.perf_counter() - started
        self.note(what, not said and seconds < limit_s, said or f"took {seconds:.0f} s")
        return result

    def note(self, what: str, is_right: bool, said: str = "") -> None:
        """Counts a try that the test has judged; `said` tells what went wrong."""
        self.num_tried += 1
        if not is_right:
            self.wrong.append(f"{self.kind}: {what}: {said}"[:400])


@pytest.fixture
def tries(record_property: Callable[[str, object], None]) -> Iterator[Callable[[str], Tries]]:
    """Makes the counter of a kind; wrong tries fail the test at its end."""
    kinds: dict[str, Tries] = {}

    def of_kind(kind: str) -> Tries:
        return kinds.setdefault(kind, Tries(kind))

    yield of_kind
    # Properties of a report also come home from the processes of pytest-xdist.
    record_property(PROPERTY, [[kind.kind, kind.num_tried, len(kind.wrong)] for kind in kinds.values()])
    wrong = [line for kind in kinds.values() for line in kind.wrong]
    assert not wrong, "\n".join(wrong)


def peak_memory_mib(who: int = resource.RUSAGE_SELF) -> int:
    """The largest resident size of this process so far, or of the largest child that has ended."""
    peak = resource.getrusage(who).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of the campaign."""
    rows: dict[str, list[int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                for kind, tried, wrong in value if name == PROPERTY and report.when == "teardown" else ():
                    row = rows.setdefault(kind, [0, 0])
                    row[0], row[1] = row[0] + tried, row[1] + wrong
    if not rows:
        return
    width = max(map(len, rows))
    terminalreporter.section("hostile input")
    terminalreporter.write_line(f"{'kind':{width}}  {'tried':>6} {'right':>6} {'wrong':>6}")
    rows = dict(sorted(rows.items()))
    for kind, (tried, wrong) in (rows | {"all": [sum(column) for column in zip(*rows.values(), strict=True)]}).items():
        terminalreporter.write_line(f"{kind:{width}}  {tried:6} {tried - wrong:6} {wrong:6}")
    memory = {"here": resource.RUSAGE_SELF, "largest child": resource.RUSAGE_CHILDREN}
    said = ", ".join(f"{where} {peak_memory_mib(who):,} MiB" for where, who in memory.items())
    terminalreporter.write_line(f"peak memory: {said}")
