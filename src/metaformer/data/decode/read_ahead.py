"""A thread that takes from an iterator before anyone asks."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE_S = 0.1  # after which a waiting thread looks whether it is still wanted

CLOSING_S = 5.0  # that closing may take


class ReadAhead(Generic[T]):
    """Iterates over the same things in the same order; at most `num_ahead` of them wait to be taken.

    `close` ends the thread; what it raised is raised where it would have been.
    """

    def __init__(self, source: Iterable[T], *, num_ahead: int) -> None:
        self._queue: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(num_ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(iter(source),), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            kind, value = self._queue.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]

    def close(self) -> None:
        """Ends the thread, and what it read from where that can be closed."""
        self._stopped.set()
        # A thread that waits for a server ends when the server answers; nobody waits for that.
        self._thread.join(CLOSING_S)

    def _run(self, source: Iterator[T]) -> None:
        try:
            for value in source:
                if not self._put(("value", value)):
                    return
            self._put(("end", None))
        # It is the reader's to handle, on its own thread.
        except BaseException as error:
            self._put(("error", error))
        finally:
            close = getattr(source, "close", None)
            if close:
                close()

    def _put(self, entry: tuple[str, T | BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=PATIENCE_S)
            except queue.Full:
                continue
            return True
        return False
