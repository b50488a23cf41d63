"""Files from the network: cached, resumed, and the same ever after."""

import hashlib
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from metaformer.core import caches
from metaformer.core.atomic_write import write_text
from metaformer.core.errors import DataError, first_line

HUB = "hf://"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
BLOCK = 1 << 20
TIMEOUT_S = 30


def cache_folder() -> Path:
    """Where downloads are kept."""
    return caches.cache_folder("weights")


def fetch(source: str | Path) -> Path:
    """A local path for a path, a URL or a hub id.

    Raises:
        DataError: It cannot be had, or is not what it was when it first came.
    """
    text = str(source)
    if text.startswith(HUB):
        return _from_hub(text.removeprefix(HUB))
    if text.startswith(("http://", "https://")):
        return _from_url(text)
    return Path(source)


def _from_url(url: str) -> Path:
    name = Path(urllib.parse.urlparse(url).path).name or "weights"
    target = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    recorded = target.with_name(f"{name}.sha256")
    if not (target.exists() and recorded.exists()):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{name}.part")
            _download(url, part)
            write_text(recorded, _sha256(part) + "\n")
            part.replace(target)
        except (urllib.error.URLError, HTTPException, TimeoutError, OSError) as error:
            raise DataError(f"cannot download {url}: {error}. Run the same command again to continue.") from None
    _check(target, recorded, url)
    return target


def _check(target: Path, recorded: Path, source: str) -> None:
    """Refuses a file that is not what was first downloaded from its source."""
    if _sha256(target) != recorded.read_text(encoding="ascii").strip():
        raise DataError(
            f"{target} is not what it was when it was downloaded from {source}. If you trust the new content, delete "
            f"{recorded}; else delete the file to download it again."
        )


def _download(url: str, part: Path) -> None:
    """Appends to what an earlier attempt left, where the server can do that."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        # 416: nothing is missing, or the file changed; the second is found out by starting anew.
        if error.code != 416:
            raise
        part.unlink()
        have, response = 0, urllib.request.urlopen(url, timeout=TIMEOUT_S)
    with response:
        resumed = response.status == 206
        size = int(response.headers.get("Content-Length") or 0)
        total = size + (have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file:
            for done in _copy(response, file):
                _show(url, done + (have if resumed else 0), total)
        if size and part.stat().st_size != total:
            raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(path: Path, source: str) -> Path:
    """The same path; its content is recorded at the first sight of this source, and checked from then on."""
    recorded = cache_folder() / "hub" / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.sha256"
    if not recorded.exists():
        write_text(recorded, _sha256(path) + "\n")
    _check(path, recorded, source)
    return path


def _from_hub(name: str) -> Path:
    """`owner/name`, or `owner/name/file`; the hub's own client keeps the cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    # Its retries are ours to report.
    logging.set_verbosity_error()
    parts = name.strip("/").split("/", 2)
    if len(parts) < 2:
        raise DataError(f"a hub id is {HUB}owner/name or {HUB}owner/name/file; got {HUB}{name}.")
    files = (parts[2],) if len(parts) == 3 else HUB_FILES
    for file in files:
        try:
            return _remembered(Path(hf_hub_download("/".join(parts[:2]), file)), f"{HUB}{'/'.join(parts[:2])}/{file}")
        except LocalEntryNotFoundError as error:
            raise DataError(f"cannot reach the hub for {HUB}{name}: {error}") from None
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise DataError(f"cannot download {HUB}{name}: {first_line(error)}") from None
    raise DataError(f"{HUB}{name} holds none of {', '.join(files)}.")
