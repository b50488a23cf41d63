"""Images in WebDataset shards: tar files in which `key.jpg` and `key.cls` belong together."""

import json
import logging
import re
import tarfile
import time
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from metaformer.core.errors import DataError, MissingExtraError
from metaformer.data.decode.image_file import IMAGE_SUFFIXES
from metaformer.data.formats.shard_files import file_name, is_remote, list_shards, open_shard
from metaformer.data.image_set import Sample
from metaformer.data.split_names import choose_split, split_of

RETRIES, PAUSE_S = 3, 1.0  # of a shard that breaks off on its way
META = re.compile(r"__[^/]*__($|/)")  # members that WebDataset keeps for itself

log = logging.getLogger("metaformer.data")


class WebDatasetImages:
    """Shards in the order in which they are listed: of a folder, a pattern or addresses.

    timm's reader leaves out what it cannot decode; here the caller hears of each image.
    """

    order_is_by_name = False
    class_names: tuple[str, ...] = ()
    num_images: int | None = None

    def __init__(self, source: Path | str, split: str | None = None) -> None:
        source = str(source)
        self._library = _library()
        parts = {shard: split_in(shard) for shard in list_shards(source)}
        self.shards = list(parts)
        self._index: tuple[tuple[str, int], ...] | None = None
        self.name = source
        if any(parts.values()) or split:
            part = choose_split([name for name in parts.values() if name], split, where=source)
            self.shards = [shard for shard, name in parts.items() if name == part]
            self.name = f"{source}, {part}"

    @property
    def num_shards(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[Sample]:
        return chain.from_iterable(self.shard(number) for number in range(self.num_shards))

    def shard(self, number: int) -> Iterator[Sample]:
        """The images of a shard; one that breaks off on its way is opened again where it broke.

        Raises:
            DataError: It cannot be read.
        """
        shard, num_read = self.shards[number], 0
        for attempt in range(RETRIES + 1):
            try:
                with open_shard(shard) as stream:
                    files = self._library.tar_file_expander([{"url": shard, "stream": stream}])
                    for fields in islice(self._library.group_by_keys(files), num_read, None):
                        yield _sample(fields, file_name(shard))
                        num_read += 1
                return
            except (tarfile.TarError, EOFError, OSError) as error:
                reason = _line(error)
                if not is_remote(shard) or attempt == RETRIES:
                    raise DataError(f"cannot read the shard {shard}: {reason}") from None
                log.warning("%s broke off after %d images (%s); opening it again", shard, num_read, reason)
                time.sleep(PAUSE_S * 2**attempt)

    def read_index(self) -> tuple[tuple[str, int], ...] | None:
        """Names and labels of all images, by the headers of local shards; None where shards are remote."""
        if any(map(is_remote, self.shards)):
            return None
        if self._index is None:
            self._index = tuple(pair for shard in self.shards for pair in self._index_of(shard))
        return self._index

    def _index_of(self, shard: str) -> Iterator[tuple[str, int]]:
        try:
            with tarfile.open(shard) as opened:
                members = [
                    {"fname": member.name, "data": _small(opened, member), "__url__": shard}
                    for member in opened
                    if member.isreg() and not META.match(member.name)
                ]
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"cannot read the shard {shard}: {_line(error)}") from None
        for fields in self._library.group_by_keys(members):
            name = _name(fields, file_name(shard))
            yield name, _label(fields, name)


def _small(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """What a member holds if it is a label; nothing if it is an image."""
    file = opened.extractfile(member) if member.name.endswith((".cls", ".json")) else None
    return file.read() if file else b""


def open_shards(source: str) -> dict[str, WebDatasetImages]:
    """The splits of shards, by our names; shards without splits in their names are all "train".

    Raises:
        ConfigError: The pattern cannot be asked for.
        DataError: There are no shards.
        MissingExtraError: The library is not installed.
    """
    _library()
    theirs = {name for shard in list_shards(source) if (name := split_in(shard))}
    ours = {split: name for name in sorted(theirs) if (split := split_of(name))}
    if not ours:
        return {"train": WebDatasetImages(source)}
    return {split: WebDatasetImages(source, name) for split, name in ours.items()}


def _library() -> Any:
    try:
        from webdataset import tariterators
    except ImportError:
        raise MissingExtraError(need="WebDataset shards", extra="data") from None
    return tariterators


def split_in(shard: str) -> str | None:
    """The split in a name such as `imagenet-train-0001.tar`."""
    return next((word for word in re.split(r"[-_.]", file_name(shard)) if split_of(word)), None)


def _image_suffix(fields: Mapping[str, Any]) -> str | None:
    return next((suffix for suffix in fields if f".{suffix.lower()}" in IMAGE_SUFFIXES), None)


def _name(fields: Mapping[str, Any], shard: str) -> str:
    suffix = _image_suffix(fields)
    return f"{shard}: {fields['__key__']}" + (f".{suffix}" if suffix else "")


def _sample(fields: Mapping[str, Any], shard: str) -> Sample:
    suffix, name = _image_suffix(fields), _name(fields, shard)
    return Sample(name=name, image=fields[suffix] if suffix else b"", label=_label(fields, name))


def _label(fields: Mapping[str, Any], name: str) -> int:
    """The number in `key.cls`, or under `label` in `key.json`."""
    try:
        if "cls" in fields:
            return int(fields["cls"])
        return int(json.loads(fields["json"])["label"])
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{name} has no class: expected a whole number in .cls, or as 'label' in .json.") from None


def _line(error: Exception) -> str:
    # The library appends what it was reading to what the error says; what errors of the system say is their second.
    said = error.strerror if isinstance(error, OSError) and error.strerror else error.args[0] if error.args else error
    return " ".join(str(said).split()) or type(error).__name__
