"""Files appear whole or not at all, whatever interrupts the writing."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaformer.core.errors import ConfigError, DataError, ShapeError, first_line


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, which replaces it when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files that only their owner may read; a result is for sharing.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def refusing_unwritable(target: Path) -> Iterator[None]:
    """Says in one line that a file cannot be written, and why: a full disk, a folder without rights, no folder at all.

    Raises:
        DataError: It cannot.
    """
    try:
        yield
    # ValueError: a name with a NUL.
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError | DataError | ShapeError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise DataError(f"cannot write {target}: {reason}. Nothing was left there.") from None


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk before anybody removes what it replaces."""
    # Some systems and file systems do not open folders.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(target: Path, text: str) -> None:
    """Writes UTF-8 text."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, values: Any) -> None:
    """Writes JSON that a person can read."""
    write_text(target, json.dumps(values, indent=1, allow_nan=False) + "\n")
