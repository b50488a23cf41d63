"""How often a JPEG goes over its pixels: each scan of a progressive one takes the time of a whole image."""

import io

from PIL import Image

BLOCK_BYTES = 1 << 20
END_OF_IMAGE, START_OF_SCAN, MARKER = b"\xff\xd9", b"\xff\xda", 0xFF


def is_jpeg(image: Image.Image) -> bool:
    """Whether an opened image is one; MPO is a JPEG with others behind it, as telephones write it."""
    return image.format in ("JPEG", "MPO")


def count_scans(file: io.BufferedIOBase) -> int:
    """The scans of the first image in a JPEG file, which is left where it was; without decoding."""
    place = file.tell()
    try:
        return _count(file)
    finally:
        file.seek(place)


def _count(file: io.BufferedIOBase) -> int:
    # Segments are passed over by their lengths: the thumbnail in one of them has scans of its own.
    file.seek(2)
    while True:
        head = file.read(4)
        if len(head) < 4 or head[0] != MARKER or head[:2] == START_OF_SCAN:
            break
        file.seek(int.from_bytes(head[2:]) - 2, io.SEEK_CUR)
    # In compressed data a byte of 255 is followed by a 0, so that these two bytes are always a marker.
    num_scans, before = int(head[:2] == START_OF_SCAN), b""
    while block := file.read(BLOCK_BYTES):
        data = before + block
        end = data.find(END_OF_IMAGE)
        num_scans += data.count(START_OF_SCAN, 0, len(data) if end < 0 else end)
        if end >= 0:
            break
        before = block[-1:]
    return num_scans
