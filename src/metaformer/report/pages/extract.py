"""Pages are backups: the records that a page embeds, as folders again."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from metaformer.core.errors import DataError
from metaformer.core.records import Record, record_from_json

EMBEDDED = re.compile(r'<script type="application/json" id="data-records">(.*?)</script>', re.DOTALL)


def extract_records(page: Path, target: Path) -> list[Path]:
    """Writes every record of a page into a folder, as it lay when the page was made.

    Args:
        page: A page that `metaformer report` made.
        target: A folder that is empty or not there yet.

    Returns:
        The files.

    Raises:
        DataError: The file is no such page, a record in it cannot be read, or the folder cannot be written.
    """
    records = _records(page)
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise DataError(f"{target} is not an empty folder. Choose another --extract.")
        return [record.write(target / folder) for folder, record in records.items()]
    except OSError as error:
        raise DataError(f"cannot write into {target}: {error.strerror or error}.") from None


def _records(page: Path) -> dict[PurePosixPath, Record[Any]]:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {page}: {getattr(error, 'strerror', None) or error}.") from None
    found = EMBEDDED.search(text)
    if not found:
        raise DataError(f"{page} embeds no records: it is no page of metaformer report.")
    try:
        listed = json.loads(found[1])
        if not all(isinstance(one["record"], dict) for one in listed):
            raise ValueError("a record is no object")
        return {_folder(one["folder"]): record_from_json(one["record"], place=f"{page}: a record") for one in listed}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the records of {page} cannot be read: {error}") from None


def _folder(name: str) -> PurePosixPath:
    """A folder inside the target: a page from elsewhere must not reach out of it."""
    folder = PurePosixPath(name)
    if folder.is_absolute() or ".." in folder.parts or "\\" in name or "\0" in name or ":" in name:
        raise DataError(f"a record of the page wants to lie at {name!r}, outside of the folder.")
    return folder
