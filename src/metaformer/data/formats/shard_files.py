"""Where tar shards are, and how they are opened."""

import glob
import http.client
import io
import os
import urllib.error
import urllib.request
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.walk import Walk

TIMEOUT_S = 60.0  # without a byte from a server
SUFFIXES = frozenset({".tar", ".tar.gz", ".tgz"})


def list_shards(source: str) -> dict[str, str]:
    """The shards of a source, in order; each with the part of its path in which a split may be named.

    Args:
        source: A folder, a file, a pattern (`train-{000..099}.tar`, `train-*.tar`) or http(s) addresses, several
            of them joined by `::`.

    Raises:
        ConfigError: A pattern of a remote address needs braces, or the way to it is unknown.
        DataError: There are none.
    """
    from webdataset.shardlists import expand_urls

    shards: list[str] = []
    folder = Path(source).expanduser()
    if not is_pattern(source) and folder.is_dir():
        inside = {str(folder / name): name for name in Walk(folder, SUFFIXES).files()}
        if not inside:
            raise DataError(f"{source} holds no .tar shards.")
        return inside
    for part in expand_urls(source):
        if is_remote(part):
            if "*" in part:
                raise ConfigError(f"a server cannot be asked for {part!r}. Write the numbers out, as {{000..099}}.")
            shards.append(part)
        elif "://" in part:
            raise ConfigError(f"shards are read from folders, http:// and https://; got {part!r}.")
        elif Path(part).expanduser().is_dir():
            shards += list_shards(part)
        elif not any(sign in part for sign in "*?["):
            shards.append(str(Path(part).expanduser()))
        else:
            shards += sorted(glob.glob(str(Path(part).expanduser())))  # noqa: PTH207 (absolute patterns)
    if not shards:
        raise DataError(f"{source} holds no .tar shards.")
    missing = next((shard for shard in shards if not is_remote(shard) and not Path(shard).is_file()), None)
    if missing:
        raise DataError(f"there is no shard {missing}.")
    shared = os.path.commonpath([os.path.dirname(_path(shard)) or "." for shard in shards])  # noqa: PTH120
    return {shard: os.path.relpath(_path(shard) or ".", shared or ".") for shard in shards}


def _path(shard: str) -> str:
    return unquote(urlsplit(shard).path) if is_remote(shard) else shard


def is_remote(shard: str) -> bool:
    """Whether it is an address on the network."""
    return shard.startswith(("http://", "https://"))


def is_pattern(source: str) -> bool:
    """Whether it names shards otherwise than by one path."""
    return "://" in source or "::" in source or any(sign in source for sign in "*?[{")


def file_name(shard: str) -> str:
    """The shard's name without folder or address."""
    return Path(_path(shard)).name


def open_shard(shard: str) -> BufferedIOBase:
    """The bytes of a shard.

    Raises:
        OSError: It is not there, or the server does not answer.
    """
    if not is_remote(shard):
        return Path(shard).open("rb")
    try:
        return io.BufferedReader(_Body(urllib.request.urlopen(shard, timeout=TIMEOUT_S)), 1 << 20)
    except urllib.error.HTTPError as error:
        raise OSError(f"the server answers {error.code} {error.reason}") from None


class _Body(io.RawIOBase):
    """What a server sends; a connection that ends too early is an error and not the end."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = int(self._response.readinto(buffer))
        except http.client.HTTPException as error:
            raise OSError(f"the connection broke: {error}") from None
        # Python's own reader takes a lost connection for the end.
        if not count and len(buffer) and self._response.length:
            raise OSError(f"the connection broke, {self._response.length} bytes before the end")
        return count

    def close(self) -> None:
        self._response.close()
        super().close()
