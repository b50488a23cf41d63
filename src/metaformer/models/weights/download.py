"""Files from the network: kept, resumed, checked, and the same ever after."""

import contextlib
import hashlib
import logging
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from filelock import FileLock

from metaformer.core import caches
from metaformer.core.errors import DataError, first_line

HUB = "hf://"
HUB_PREFIXES = (HUB, "hf-hub:", "hf_hub:")  # the others as timm writes them
WEB = ("http://", "https://")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
BLOCK = 1 << 20
TIMEOUT_S = 30

log = logging.getLogger("metaformer.models")


def cache_folder() -> Path:
    """Where downloads are kept."""
    return caches.cache_folder("weights")


def is_remote(source: str) -> bool:
    """Whether it is a URL or a hub id."""
    return source.startswith((*HUB_PREFIXES, *WEB))


def fetch(source: str | Path) -> Path:
    """A local path for a path, a URL or a hub id (`hf://owner/name`, or timm's `hf-hub:owner/name`).

    Raises:
        DataError: It cannot be had, or is not what it was when it first came.
    """
    text = str(source)
    for prefix in HUB_PREFIXES:
        if text.startswith(prefix):
            return _from_hub(text.removeprefix(prefix))
    if text.startswith(WEB):
        return _from_url(text)
    return Path(source)


def _from_url(url: str) -> Path:
    folder = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        target = folder / (Path(urllib.parse.urlparse(url).path).name or "weights")[-100:]
        folder.mkdir(parents=True, exist_ok=True)
        # One process downloads; the others wait, and find the file.
        with FileLock(folder / "lock"):
            if caches.is_whole(target):
                return target
            if target.exists():
                log.warning("%s is damaged: downloading it anew from %s.", target, url)
            part = _download(url, folder)
            seal = caches.seal_of(part)
            known = caches.read_seal(target)
            if known and known != seal:
                part.unlink()
                raise _changed(target, url)
            caches.write_seal(target, seal)
            part.replace(target)
    # ValueError: no URL at all.
    except (urllib.error.URLError, HTTPException, TimeoutError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"cannot download {url}: {first_line(error)}. Run the same command again to continue."
        ) from None
    return target


def _changed(target: Path, source: str) -> DataError:
    """The error for a source whose content is another than at the first time: somebody may have put it there."""
    return DataError(
        f"what {source} gives is not what it was when it was downloaded first. If you trust the new content, delete "
        f"{target.with_name(f'{target.name}.seal')}."
    )


def _download(url: str, folder: Path) -> Path:
    """The whole file, under a name of its own; goes on from what an earlier attempt left, if that is of this file."""
    part, validator = _claim(folder)
    have = part.stat().st_size if part.exists() else 0
    response = _open(url, have, validator)
    with response:
        # Without these a server sent the whole, or another piece than was asked for.
        resumed = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        if response.status == 206 and not resumed:
            part.unlink()
            raise OSError("the server sent another piece than the one that was missing")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else 0
        _validator_of(part).write_text(_validator(response), encoding="utf-8")
        with part.open("ab" if resumed else "wb") as file:
            for done in _copy(response, file):
                _show(url, start + done, total)
    if length and part.stat().st_size != total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")
    _validator_of(part).unlink()
    with part.open("rb") as file:
        if file.read(100).lstrip()[:1] == b"<":
            part.unlink()
            hint = f" Of the hub: {HUB}owner/name." if "huggingface.co" in url else ""
            raise DataError(f"{url} gives a web page, not a weights file. Name the file itself.{hint}")
    return part


def _claim(folder: Path) -> tuple[Path, str]:
    """A name for a part that nobody else has, with the longest part that was left, and what that is a part of.

    Only for the holder of the folder's lock: whoever left the others is gone.
    """
    own = folder / f"{uuid.uuid4().hex}.part"
    validator = ""
    for left in sorted(folder.glob("*.part"), key=lambda path: -path.stat().st_size):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if not validator and (validator := _validator_of(left).read_text(encoding="utf-8").strip()):
                left.replace(own)
        _validator_of(left).unlink(missing_ok=True)
        left.unlink(missing_ok=True)
    return own, validator


def _validator_of(part: Path) -> Path:
    """Where it is noted which version of a file a part is of."""
    return part.with_suffix(".version")


def _validator(response: HTTPResponse) -> str:
    """What names the version of a file: a strong tag, or when it was changed."""
    tag = response.headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""


def _open(url: str, have: int, validator: str) -> HTTPResponse:
    """Asks for what is missing, if the file is still the one that the part is of; else for the whole."""
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have and validator else {}
    try:
        response: HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        # 416: nothing is missing, or the file became shorter.
        if error.code != 416 or not headers:
            raise
        response = urllib.request.urlopen(url, timeout=TIMEOUT_S)
    return response


def _copy(response: Any, file: Any) -> Iterator[int]:
    done = 0
    while block := response.read(BLOCK):
        file.write(block)
        done += len(block)
        yield done


def _show(url: str, done: int, total: int) -> None:
    """One line that counts up, where somebody looks."""
    if sys.stderr.isatty():
        share = f" of {total / 2**20:.0f} MiB ({100 * done / total:.0f}%)" if total else " MiB"
        end = "\n" if done == total else ""
        sys.stderr.write(f"\rdownloading {Path(url).name}: {done / 2**20:.0f}{share}{end}")
        sys.stderr.flush()


def _from_hub(name: str) -> Path:
    """`owner/name`, or `owner/name/file`, with `@revision` behind the name; the hub's own client keeps the cache."""
    from huggingface_hub.utils import logging

    # Its retries are ours to report.
    logging.set_verbosity_error()
    parts = name.strip("/").split("/", 2)
    if len(parts) < 2 or not all(parts):
        raise DataError(f"a hub id is {HUB}owner/name or {HUB}owner/name/file; got {HUB}{name}.")
    repository, _, revision = "/".join(parts[:2]).partition("@")
    files = (parts[2],) if len(parts) == 3 else HUB_FILES
    for file in files:
        if path := _of_hub(repository, file, revision or None):
            return path
    raise DataError(f"{HUB}{name} holds none of {', '.join(files)}.")


def _of_hub(repository: str, file: str, revision: str | None) -> Path | None:
    """One file of a repository, the same ever after; None where it has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    source = f"{HUB}{repository}{f'@{revision}' if revision else ''}/{file}"
    record = cache_folder() / "hub" / hashlib.sha256(source.encode()).hexdigest()[:16]
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
        known = caches.read_seal(record)
        if not known:
            caches.write_seal(record, caches.seal_of(path))
        elif caches.seal_of(path) != known:
            log.warning("%s is damaged or was changed: downloading it anew from %s.", path, source)
            path = Path(hf_hub_download(repository, file, revision=revision, force_download=True))
            if caches.seal_of(path) != known:
                raise _changed(record, source)
    except LocalEntryNotFoundError as error:
        raise DataError(f"cannot reach the hub for {source}: {first_line(error)}") from None
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise DataError(f"cannot download {source}: {first_line(error)}") from None
    return path
