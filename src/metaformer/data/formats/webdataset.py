"""Images in WebDataset shards: tar files in which `key.jpg` and `key.cls` belong together."""

import json
import logging
import tarfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from metaformer.core.errors import DataError, MissingExtraError
from metaformer.core.printable import printable
from metaformer.data.decode.image_file import IMAGE_SUFFIXES
from metaformer.data.formats.shard_files import file_name, is_remote, list_shards, open_shard
from metaformer.data.found import Found
from metaformer.data.image_set import Sample, ShardedImages, ShardIndex
from metaformer.data.name_list import NameList
from metaformer.data.notes import Note, counted, some
from metaformer.data.split_names import group_by_split
from metaformer.data.walk import is_junk

RETRIES, PAUSE_S = 3, 1.0  # of a shard that breaks off on its way
LABELS = (".cls", ".json")
BLOCK = 512  # bytes; a tar file ends with empty ones
BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error)

log = logging.getLogger("metaformer.data")


@dataclass(kw_only=True)
class _Members:
    """The members of one shard with one key, as far as they were met."""

    image_suffix: str = ""
    image: bytes = b""
    label_suffix: str = ""
    label: bytes = b""


@dataclass(kw_only=True)
class _Tally:
    """What is left out of a shard."""

    members: int = 0
    links: int = 0
    other: Counter[str] = field(default_factory=Counter)
    unended: list[str] = field(default_factory=list)


class WebDatasetImages(ShardedImages):
    """Shards in the order in which they are listed: of a folder, a pattern or addresses.

    The library's own reader puts together only what stands together, ends at a name that comes twice, and takes all
    behind a key's first dot for its suffix; here members find each other wherever they are in a shard.
    """

    def __init__(self, shards: list[str], *, name: str) -> None:
        self.shards, self.name, self.num_shards = shards, name, len(shards)
        is_local = not any(map(is_remote, shards))
        self.num_bytes = sum(Path(shard).stat().st_size for shard in shards) if is_local else None
        self._index = self._read_headers() if is_local else None
        self.num_images = len(self._index.names) if self._index else None

    def shard(self, number: int) -> Iterator[Sample]:
        """The images of a shard; one that breaks off on its way is opened again where it broke.

        Raises:
            DataError: It cannot be read.
        """
        shard, num_read = self.shards[number], 0
        for attempt in range(RETRIES + 1):
            try:
                with open_shard(shard) as stream, closing(tarfile.open(fileobj=stream, mode="r|*")) as opened:
                    for key, members in islice(_together(opened, shard, _Tally(), with_images=True), num_read, None):
                        yield _sample(key, members, file_name(shard))
                        num_read += 1
                return
            except BROKEN as error:
                reason = _line(error)
                if not is_remote(shard) or attempt == RETRIES:
                    raise DataError(f"cannot read the shard {shard}: {reason}") from None
                log.warning("%s broke off after %d images (%s); opening it again", shard, num_read, reason)
                time.sleep(PAUSE_S * 2**attempt)

    def read_index(self) -> ShardIndex | None:
        return self._index

    def _read_headers(self) -> ShardIndex:
        names, labels, sizes, tally = NameList(), [], [], _Tally()
        for shard in self.shards:
            before = len(names)
            for sample in _headers(shard, tally):
                names.extend([sample.name])
                labels.append(sample.label)
            sizes.append(len(names) - before)
        self.notes = _notes(tally)
        return ShardIndex(names=names, labels=labels, shard_sizes=tuple(sizes))


def open_webdataset(place: str) -> Found:
    """The splits of the shards of a folder and below it, of a pattern or of addresses.

    Raises:
        ConfigError: The pattern cannot be asked for.
        DataError: There are no shards.
        MissingExtraError: The library is not installed.
    """
    try:
        import webdataset  # noqa: F401 (for the way in which it writes patterns)
    except ImportError:
        raise MissingExtraError(need="WebDataset shards", extra="data") from None
    groups, told = group_by_split(list_shards(place), where=place)
    several = len(groups) > 1 or "train" not in groups

    def opener(split: str) -> WebDatasetImages:
        return WebDatasetImages(groups[split], name=f"{place}, {split}" if several else place)

    splits = {split: partial(opener, split) for split in groups}
    return Found(title=Path(place).name, splits=splits, notes=tuple(told))


def _headers(shard: str, tally: _Tally) -> Iterator[Sample]:
    """The images of a local shard without their content."""
    try:
        with tarfile.open(shard) as opened:
            for key, members in _together(opened, shard, tally, with_images=False):
                yield _sample(key, members, file_name(shard))
            # tarfile takes whatever is no header for the end.
            file = opened.fileobj
            assert file is not None
            file.seek(opened.offset)
            end = file.read(BLOCK)
            if end.strip(b"\0"):
                raise DataError(f"cannot read the shard {shard}: it is damaged behind its file {tally.members}.")
            if not end:
                tally.unended.append(shard)
    except BROKEN as error:
        raise DataError(f"cannot read the shard {shard}: {_line(error)}") from None


def _together(
    opened: tarfile.TarFile, shard: str, tally: _Tally, *, with_images: bool
) -> Iterator[tuple[str, _Members]]:
    """Images with their labels as soon as both were met, then those that stay alone, in the order of the shard.

    Raises:
        DataError: A name comes twice.
    """
    waiting: dict[str, _Members] = {}
    met: set[int] = set()
    for member in opened:
        # tarfile would keep every header.
        opened.members = []  # type: ignore[attr-defined]
        tally.members += 1
        if any(is_junk(part) for part in member.name.split("/") if part not in (".", "..")) or _is_meta(member.name):
            continue
        if not member.isreg():
            tally.links += not member.isdir()
            continue
        key, dot, suffix = member.name.rpartition(".")
        suffix = (dot + suffix).lower()
        if suffix not in IMAGE_SUFFIXES and suffix not in LABELS:
            tally.other[suffix or "no suffix"] += 1
            continue
        if hash(member.name) in met:
            raise DataError(
                f"the shard {shard} holds {printable(member.name)} twice. Give each file a name of its own."
            )
        met.add(hash(member.name))
        if hash(key) in met:
            # The image has its label: another one, or another image of the same name.
            tally.other[suffix] += 1
            continue
        file = opened.extractfile(member) if suffix in LABELS or with_images else None
        content = file.read() if file else b""
        known = waiting.setdefault(key, _Members())
        if suffix in LABELS:
            known.label_suffix, known.label = suffix, content
        else:
            known.image_suffix, known.image = suffix, content
        if known.image_suffix and known.label_suffix:
            met.add(hash(key))
            yield key, waiting.pop(key)
    for key, members in waiting.items():
        # A mask and the like, as key.mask.png, belongs to an image that was met with its label.
        if not members.label_suffix and "." in key and hash(key.rpartition(".")[0]) in met:
            tally.other[members.image_suffix] += 1
            continue
        yield key, members


def _is_meta(name: str) -> bool:
    """Whether WebDataset keeps the member for itself: `__name__`."""
    first = name.split("/")[0]
    return first.startswith("__") and first.endswith("__") and len(first) > 4


def _sample(key: str, members: _Members, shard: str) -> Sample:
    name = printable(f"{shard}: {key}{members.image_suffix}")
    return Sample(name=name, image=members.image, label=_label(members, name))


def _label(members: _Members, name: str) -> object:
    """What `key.cls` says, or `label` in `key.json`; None where there is neither."""
    if not members.label_suffix:
        return None
    try:
        text = members.label.decode("utf-8-sig").strip()
        return text if members.label_suffix == ".cls" else json.loads(text)["label"]
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{name} has no class: expected it in .cls, or as 'label' in .json.") from None


def _notes(tally: _Tally) -> tuple[Note, ...]:
    told = []
    if tally.links:
        what = counted(tally.links, "link or device", "links or devices")
        told.append(Note(text=f"Left out of the shards: {what}.", count=tally.links))
    if tally.other:
        total = tally.other.total()
        what = some(f"{suffix} {count:,}" for suffix, count in tally.other.most_common())
        told.append(
            Note(text=f"Left out of the shards: {counted(total, 'file')} of other suffixes: {what}.", count=total)
        )
    if tally.unended:
        what = counted(len(tally.unended), "shard")
        text = f"{what} without the end that tar writes, perhaps cut off (the first: {tally.unended[0]})."
        told.append(Note(text=text, count=len(tally.unended)))
    return tuple(told)


def _line(error: Exception) -> str:
    # What errors of the system say is their second.
    said = error.strerror if isinstance(error, OSError) and error.strerror else error.args[0] if error.args else error
    return " ".join(str(said).split()) or type(error).__name__
