"""A table of names: what may be written as text where Python takes an object."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from metaformer.core.errors import ConfigError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """An ordered, visible table from a name to what it stands for.

    Unknown names fail and name the nearest; a name is never silently replaced.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def add(self, name: str, entry: T) -> None:
        """Adds a row.

        Raises:
            ConfigError: The name is taken by something else.
        """
        if self._entries.get(name, entry) is not entry:
            raise ConfigError(f"the {self.kind} {name!r} exists already. Choose another name.")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str) or name not in self._entries:
            raise unknown(self.kind, str(name), self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterator[tuple[str, T]]:
        return iter(self._entries.items())

    def name_of(self, entry: object) -> str | None:
        """The name under which `entry` stands in the table, or None."""
        return next((name for name, known in self._entries.items() if known is entry), None)
