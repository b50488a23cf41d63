"""Files of a cache with their size and hash beside them: what was damaged is not there, and is made again."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaformer.core.atomic_write import atomic_path, write_json


def is_whole(path: Path) -> bool:
    """Whether the file is there as it was written: a regular file with the size and the hash that stand beside it."""
    try:
        expected = json.loads(_beside(path).read_text(encoding="utf-8"))
        # The size first: what has not even that is not read.
        return path.is_file() and path.stat().st_size == expected["size"] and _facts(path) == expected
    # Whatever stands there instead, it is no file of ours.
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


@contextmanager
def checked_path(target: Path) -> Iterator[Path]:
    """A temporary path; when the block ends without an error it replaces `target`, and its hash is written beside it.

    Raises:
        OSError: The folder cannot be written.
    """
    for path in (target, _beside(target)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    with atomic_path(target) as temporary:
        yield temporary
        facts = _facts(temporary)
    write_json(_beside(target), facts)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256.json")


def _facts(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}
