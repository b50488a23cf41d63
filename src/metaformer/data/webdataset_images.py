"""Images in WebDataset shards: tar files in which `key.jpg` and `key.cls` belong together."""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaformer.core.errors import DataError, MissingExtraError
from metaformer.data.image_file import IMAGE_SUFFIXES
from metaformer.data.image_set import Sample
from metaformer.data.split_names import choose_split, split_of


class WebDatasetImages:
    """Shards of a folder, in the order of their names.

    timm's reader leaves out what it cannot decode; here the caller hears of each image.
    """

    order_is_by_name = False
    class_names: tuple[str, ...] = ()
    num_images: int | None = None

    def __init__(self, source: Path, split: str | None = None) -> None:
        try:
            from webdataset import tariterators
        except ImportError:
            raise MissingExtraError(need="WebDataset shards", extra="data") from None
        self._library = tariterators
        shards = sorted(source.glob("*.tar")) if source.is_dir() else [source]
        if not shards or not shards[0].is_file():
            raise DataError(f"{source} holds no .tar shards.")
        parts = {shard: _split_in(shard) for shard in shards}
        self.name = str(source)
        if any(parts.values()) or split:
            part = choose_split([name for name in parts.values() if name], split, where=str(source))
            shards = [shard for shard, name in parts.items() if name == part]
            self.name = f"{source}, {part}"
        self._shards = shards

    def __iter__(self) -> Iterator[Sample]:
        for shard in self._shards:
            try:
                with shard.open("rb") as stream:
                    files = self._library.tar_file_expander([{"url": str(shard), "stream": stream}])
                    for fields in self._library.group_by_keys(files):
                        yield _sample(fields, shard.name)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise DataError(f"cannot read the shard {shard}: {' '.join(str(error).split())}") from None


def _split_in(shard: Path) -> str | None:
    return next((word for word in re.split(r"[-_.]", shard.stem) if split_of(word)), None)


def _sample(fields: Mapping[str, Any], shard: str) -> Sample:
    suffix = next((suffix for suffix in fields if f".{suffix.lower()}" in IMAGE_SUFFIXES), None)
    name = f"{shard}: {fields['__key__']}" + (f".{suffix}" if suffix else "")
    return Sample(name=name, image=fields[suffix] if suffix else b"", label=_label(fields, name))


def _label(fields: Mapping[str, Any], name: str) -> int:
    """The number in `key.cls`, or under `label` in `key.json`."""
    try:
        if "cls" in fields:
            return int(fields["cls"])
        return int(json.loads(fields["json"])["label"])
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{name} has no class: expected a whole number in .cls, or as 'label' in .json.") from None
