"""Signals that ask a training to stop: noted, and obeyed when a step is done."""

import signal
from types import FrameType, TracebackType
from typing import Any

from metaformer.core.errors import StoppedError


class InterruptedRunError(StoppedError):
    """A signal asked the run to stop, and it is saved."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class Interruption:
    """While it is entered, SIGTERM and Ctrl-C are noted; the second one takes effect at once."""

    def __init__(self) -> None:
        self.signal_number = 0  # of the first signal; 0: none came
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
