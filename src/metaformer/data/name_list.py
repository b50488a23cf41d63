"""Millions of names in little memory."""

import os
from array import array
from collections.abc import Iterable, Iterator


class NameList:
    """A list of file names, as the system's bytes one after the other: a third of what Python's strings take."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("Q")
        self.extend(names)

    def extend(self, names: Iterable[str]) -> None:
        """Adds names at the end."""
        for name in names:
            self._bytes += os.fsencode(name)
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(bytes(self._bytes[self._ends[index - 1] if index else 0 : self._ends[index]]))

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))
