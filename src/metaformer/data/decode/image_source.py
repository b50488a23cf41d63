"""Opens what somebody calls an image: only regular files, only the formats that are read here, within limits."""

import ctypes
import functools
import io
import logging
import os
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError, _imaging

from metaformer.core.errors import DataError, first_line
from metaformer.core.printable import printable
from metaformer.data.decode.image_url import ImageUrl, download
from metaformer.data.decode.jpeg_scans import count_scans, is_jpeg

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm"),
        *("pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
# In Pillow's words. Whatever else it can open stays closed: PostScript is a program that Ghostscript would run.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA")

MAX_FILE_MIB = 256
MAX_MEGAPIXELS = 178  # as Pillow has it
MAX_DECODED_MIB = 400  # in memory, as the decoder leaves it
COPIES = {"WEBP": 16, "AVIF": 16, "JPEG2000": 16}  # bytes a pixel, where the libraries hand copies on
MAX_TEXT_MIB = 1  # of words or a colour profile in a PNG, unpacked; as Pillow has it
MAX_SCANNED_MEGAPIXELS = 1000  # of a JPEG: pixels times the scans that refine them
MAX_CPU_S = 10.0  # of one image

# How a file begins -> what it is: the usual ones among files with the name of an image.
BEGINNINGS = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<svg": "an SVG drawing",
    b"<?xml": "XML",
    b"%!ps": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%pdf": "a PDF document",
    b"8bps": "a Photoshop file",
    b"\0\0\1\0": "an icon",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile",
    b"version https://git-lfs": "the placeholder of a Git LFS file, which was not downloaded",
}
# Windows knows neither pipes among its files nor text without being asked.
UNBLOCKED = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
KINDS_OF_FILE = {
    stat.S_IFDIR: "is a directory",
    stat.S_IFIFO: "a pipe (fifo), not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}

ImageSource = Path | bytes | ImageUrl | Image.Image


class ImageError(DataError):
    """An image cannot be read; says why in a few words, without its name."""


@contextmanager
def open_image(source: ImageSource) -> Iterator[Image.Image]:
    """The image with its header read, to be decoded inside: what goes wrong there becomes an ImageError, too.

    Args:
        source: A file, its content, an address, or an image already opened, which stays open.

    Raises:
        ImageError: It is missing, no regular file, damaged, beyond a limit, or of no format that is read.
    """
    try:
        with _quiet_pillow():
            if isinstance(source, Image.Image):
                yield source
                return
            with _file(source) as file:
                _check_size(file)
                file.until = time.thread_time() + MAX_CPU_S
                with _identified(file) as image:
                    yield image
    except ImageError:
        raise
    # Broken files fail in Pillow wherever they happen to lead: SyntaxError, struct.error, zlib.error, ...
    except Exception as error:
        raise ImageError(_reason(error)) from None


def check_memory(image: Image.Image, num_pixels: int) -> None:
    """Refuses what would take too much memory when it is decoded.

    Args:
        image: As it is about to be decoded, perhaps smaller than its file has it, and not yet loaded.
        num_pixels: In its file.

    Raises:
        ImageError: It would.
    """
    bytes_a_pixel = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    bytes_a_pixel = COPIES.get(image.format or "", bytes_a_pixel)
    size = image.width * image.height * bytes_a_pixel
    if image.info.get("progressive"):
        # All coefficients of all channels are kept until the last scan, in the file's own size.
        size += 2 * num_pixels * len(image.getbands())
    if size >> 20 > MAX_DECODED_MIB:
        raise ImageError(f"takes {size >> 20:,} MiB when it is decoded; the limit is {MAX_DECODED_MIB:,}")


class _Watched(io.BufferedIOBase):
    """A file that lets itself be read for so long."""

    until = float("inf")  # on the clock of the thread's own work, so that a busy machine refuses no image

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self.until:
            raise ImageError(f"takes more than {MAX_CPU_S:g} s to decode")
        return super().read(size)


class _WatchedFile(_Watched, io.BufferedReader):
    pass


class _WatchedBytes(_Watched, io.BytesIO):
    pass


def _file(source: Path | bytes | ImageUrl) -> _WatchedFile | _WatchedBytes:
    """The file of an image, of which it is known that reading cannot wait for ever."""
    if isinstance(source, ImageUrl):
        source = download(source, most=MAX_FILE_MIB << 20)
    if isinstance(source, bytes):
        return _WatchedBytes(source)
    kind = stat.S_IFMT(source.stat().st_mode)
    if kind != stat.S_IFREG:
        raise ImageError(KINDS_OF_FILE.get(kind, "not a regular file"))
    # Should it become a pipe now, opening it still waits for nobody.
    return _WatchedFile(io.FileIO(os.open(source, os.O_RDONLY | UNBLOCKED)))


def _check_size(file: _WatchedFile | _WatchedBytes) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not size:
        raise ImageError("the file is empty")
    if size >> 20 > MAX_FILE_MIB:
        raise ImageError(f"the file has {size >> 20:,} MiB; the limit is {MAX_FILE_MIB}")


def _identified(file: Any) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        beginning = file.read(64).lstrip().lower()
        kind = next((kind for start, kind in BEGINNINGS.items() if beginning.startswith(start)), None)
        kind = "HEIC" if beginning[4:11] in (b"ftyphei", b"ftypmif") else kind
        raise ImageError(f"not an image but {kind}" if kind else "not an image that Pillow can read") from None
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise ImageError(f"has {megapixels:,.0f} megapixels; the limit is {MAX_MEGAPIXELS}")
    if image.format == "TIFF":
        _silence_libtiff()
    if is_jpeg(image):
        num_scans = count_scans(file)
        if num_scans * megapixels > MAX_SCANNED_MEGAPIXELS:
            raise ImageError(
                f"its {num_scans:,} scans of {megapixels:.1f} megapixels are {num_scans * megapixels:,.0f} to decode; "
                f"the limit is {MAX_SCANNED_MEGAPIXELS:,}"
            )
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keeps the C library from printing to stderr what Pillow raises as an error anyway."""
    try:
        # A library that was opened finds the functions of those that it needs.
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
    # Where Pillow was built in another way there is no such door, and what libtiff says is noise and no harm.
    except (OSError, AttributeError):
        return


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_MEGAPIXELS} megapixels, the limit"
    if "MAX_TEXT" in str(error):
        return f"its text or colour profile takes more than {MAX_TEXT_MIB} MiB unpacked, the limit"
    if isinstance(error, MemoryError):
        return "takes more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return printable(first_line(error)).rstrip(".")


class _Quiet:
    """Pillow's warnings are off while at least one thread reads: Python's list of filters is one for all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_readers = 0
        self.catching = warnings.catch_warnings()


_quiet = _Quiet()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    with _quiet.lock:
        _quiet.num_readers += 1
        if _quiet.num_readers == 1:
            _quiet.catching = warnings.catch_warnings()
            _quiet.catching.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            # What Pillow logs and nobody handles would be printed by Python's last resort.
            log = logging.getLogger("PIL")
            if not log.handlers:
                log.addHandler(logging.NullHandler())
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.num_readers -= 1
            if not _quiet.num_readers:
                _quiet.catching.__exit__(None, None, None)
