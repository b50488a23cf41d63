"""Shards as people have them."""

import gzip
import io
import tarfile
from enum import Enum

import pytest

from metaformer.core.errors import DataError
from metaformer.data.sources import open_images

pytest.importorskip("webdataset")


class Kind(Enum):
    """Of what is no file."""

    LINK, HARD_LINK, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE


def shard(path, members, form=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w", format=form) as opened:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if isinstance(content, Kind):
                entry.type, entry.linkname = content.value, "a.png"
                opened.addfile(entry)
            else:
                entry.size = len(content)
                opened.addfile(entry, io.BytesIO(content))
    return path


PAIR = [("a.png", b"picture"), ("a.cls", b"1")]


def read(path):
    images = open_images(str(path))
    return [(sample.name.split(": ")[1], sample.image, sample.label) for sample in images], images.notes


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["PAX", "GNU"])
def test_names_that_need_a_header_of_their_own(tmp_path, form):
    long = "folder/" * 30 + "caf\u00e9"
    members = [(f"{long}.png", b"picture"), (f"{long}.cls", b"1")]
    assert read(shard(tmp_path / "0.tar", members, form))[0] == [(f"{long}.png", b"picture", 1)]


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz"])
def test_compressed_shards_and_capital_suffixes(tmp_path, suffix):
    assert read(shard(tmp_path / f"0.{suffix}", [("a.PNG", b"picture"), ("a.CLS", b"1")]))[0] == [
        ("a.png", b"picture", 1)
    ]


def test_shards_that_were_cut_off_are_refused_or_told(tmp_path):
    whole = shard(tmp_path / "0.tar", PAIR).read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[: 3 * 512 + 1])
    with pytest.raises(DataError, match=r"cannot read the shard .*0\.tar: unexpected end of data"):
        read(tmp_path / "0.tar")
    (tmp_path / "0.tar").write_bytes(whole[: 4 * 512])
    found, notes = read(tmp_path / "0.tar")
    assert found == [("a.png", b"picture", 1)]
    assert "1 shard without the end that tar writes, perhaps cut off" in str(notes[0])
    (tmp_path / "1.tar.gz").write_bytes(gzip.compress(whole)[:-30])
    with pytest.raises(DataError, match=r"cannot read the shard .*1\.tar\.gz"):
        read(tmp_path / "1.tar.gz")


def test_links_devices_and_other_files_in_a_shard_are_counted(tmp_path):
    members = [*PAIR, ("b.png", Kind.LINK), ("c.png", Kind.HARD_LINK), ("d", Kind.DEVICE), ("a.heic", b"x")]
    found, notes = read(shard(tmp_path / "0.tar", members))
    assert found == [("a.png", b"picture", 1)]
    assert [note.count for note in notes] == [3, 1]
    assert "3 links or devices" in str(notes[0])
    assert "1 file of other suffixes: .heic 1" in str(notes[1])
