"""What is said when the disk is full or a folder cannot be written."""

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metaformer.core.errors import DataError, StoppedError

KEPT = "What was saved stays: the same command goes on from there, once there is room."


def require_writable(folder: Path) -> None:
    """Makes the folder where it is missing, and writes into it once.

    Raises:
        DataError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error.strerror or error}. Choose another folder.") from None


@contextlib.contextmanager
def naming_disk_errors(what: str, kept: str) -> Iterator[None]:
    """Turns what a failed write says into a sentence.

    Args:
        what: That could not be written.
        kept: A sentence on what is saved.

    Raises:
        StoppedError: The block could not write.
    """
    try:
        yield
    # torch and safetensors have errors of their own around that of the system.
    except Exception as error:
        number = _system_error(error)
        if number is None:
            raise
        is_full = number in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if is_full else os.strerror(number)
        raise StoppedError(f"cannot write {what}: {reason}. {kept}") from None


def _system_error(error: BaseException | None) -> int | None:
    """The number of the system's error that is behind an error, if one is."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if type(error).__name__ == "SafetensorError" and (found := re.search(r"\(os error (\d+)\)", str(error))):
            return int(found[1])
        error = error.__context__
    return None
