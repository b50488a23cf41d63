"""Measurements in rounds, each kept as a file, so that a session that was cut off goes on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metaformer.core.atomic_write import write_json
from metaformer.core.errors import DataError
from metaformer.core.records import read_json


def rounds(
    folder: Path, settings: dict[str, Any], num_rounds: int, measure: Callable[[], Any]
) -> Iterator[tuple[int, Any]]:
    """Yields each round's number and result: those of the folder first, then new ones.

    A round of other settings, or one that cannot be read, is measured again. Rounds run on one thread: times of
    several threads depend on what else the machine does.
    """
    for number in range(num_rounds):
        path = folder / f"round-{number}.json"
        known = _read(path, settings)
        if known is None:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                known = measure()
            finally:
                torch.set_num_threads(threads)
            write_json(path, {"settings": settings, "result": known})
        yield number, known


@dataclass
class Share:
    """How much of the measured time the measuring thread was at work: below 1, something else took the machine."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, wall_s: float, cpu_s: float) -> None:
        """Books some calls."""
        self.wall_s += wall_s
        self.cpu_s += cpu_s

    @property
    def value(self) -> float | None:
        """Between 0 and 1; None before anything was measured."""
        if self.wall_s <= 0:
            return None
        return min(1.0, self.cpu_s / self.wall_s)


def clear_rounds(folder: Path) -> None:
    """Removes the files of the rounds; their numbers are in the record."""
    for path in folder.glob("round-*.json"):
        path.unlink(missing_ok=True)


def _read(path: Path, settings: dict[str, Any]) -> Any:
    if not path.is_file():
        return None
    try:
        stored = read_json(path)
    except DataError:
        return None
    return stored.get("result") if stored.get("settings") == settings else None
