"""One image file as a viewer shows it: upright, 8 bits a channel, on white."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metaformer.core.errors import DataError

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm"),
        *("pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
HUGE_PX = 1 << 24  # images of more pixels are read one at a time, and made smaller at once
MAX_16_BIT = 65535
ORIENTATION = 0x0112  # in EXIF
AVERAGED = ("L", "RGB", "CMYK", "YCbCr")  # modes in which the mean of pixels is a pixel

ImageSource = Path | bytes | Image.Image

_one_huge_image = threading.Lock()


class ImageError(DataError):
    """An image cannot be read; says why in a few words, without its name."""


def read_image(source: ImageSource, *, mode: str, side_px: int) -> Image.Image:
    """Reads an image.

    The orientation in its EXIF data is applied, transparent parts lie on white, 16 bits become 8, of an animation the
    first frame is taken. A huge image comes back smaller, with both sides at least four times `side_px` where it had
    as many.

    Args:
        source: A file, its content, or an image already opened.
        mode: "RGB" or "L".
        side_px: What the caller needs.

    Raises:
        ImageError: It is missing, damaged, too large for Pillow's limit, or no image.
    """
    try:
        with _quiet_pillow():
            if isinstance(source, Image.Image):
                return _read(source, mode, side_px)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                return _read(opened, mode, side_px)
    # Broken files fail in Pillow wherever they happen to lead: SyntaxError, struct.error, zlib.error, ...
    except Exception as error:
        raise ImageError(_reason(error, source)) from None


def _read(image: Image.Image, mode: str, side_px: int) -> Image.Image:
    enough_px = 4 * side_px
    is_huge = image.width * image.height > HUGE_PX
    with _one_huge_image if is_huge else nullcontext():
        if is_huge:
            # JPEG can leave out the fine frequencies while it decodes.
            image.draft(image.mode, (enough_px, enough_px))
        image.load()
        image = _upright(image)
        factor = min(image.size) // enough_px if is_huge else 1
        # Before the conversion where neighbours may be averaged: not in palettes.
        if factor > 1 and image.mode in AVERAGED:
            image, factor = image.reduce(factor), 1
        image = _convert(image, mode)
        return image.reduce(factor) if factor > 1 else image


def _upright(image: Image.Image) -> Image.Image:
    try:
        # Without this question a copy would be made of every image.
        return image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    # EXIF data that cannot be read says nothing about the orientation.
    except Exception:
        return image


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, whole numbers of 32 bits that fit into 16, or fractions from 0 to 1."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):
            raise ImageError(f"its pixels are fractions from {low:g} to {high:g}; a viewer knows 0 to 1")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if low < 0 or high > MAX_16_BIT:
        raise ImageError(f"its pixels go from {low} to {high}; a viewer knows 0 to {MAX_16_BIT}")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _reason(error: Exception, source: ImageSource) -> str:
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        is_empty = not (source if isinstance(source, bytes) else isinstance(source, Path) and source.stat().st_size)
        return "the file is empty" if is_empty else "not an image that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels, Pillow's limit against bombs"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


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
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.num_readers -= 1
            if not _quiet.num_readers:
                _quiet.catching.__exit__(None, None, None)
