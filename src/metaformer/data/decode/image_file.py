"""One image file as a viewer shows it: upright, 8 bits a channel, on white."""

import threading
from contextlib import nullcontext

import numpy as np
from PIL import Image

from metaformer.data.decode.image_source import (
    IMAGE_SUFFIXES,
    ImageError,
    ImageSource,
    check_memory,
    open_image,
)

__all__ = ["IMAGE_SUFFIXES", "ImageError", "ImageSource", "read_image", "read_size"]

HUGE_PX = 1 << 24  # images of more pixels are read one at a time, and made smaller at once
MAX_16_BIT = 65535
STRIP_PX = 1 << 20
ORIENTATION = 0x0112  # in EXIF
# What makes each orientation the upright one.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # those by which width and height change places
AVERAGED = ("L", "RGB", "CMYK", "YCbCr")  # modes in which the mean of pixels is a pixel

_one_huge_image = threading.Lock()


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
        ImageError: It is missing, no regular file, damaged, beyond a limit, or of no format that is read.
    """
    with open_image(source) as image:
        return _read(image, mode, side_px)


def read_size(source: ImageSource) -> tuple[int, int] | None:
    """Height and width as a viewer shows it; None where even the header cannot be read, which `read_image` tells."""
    try:
        with open_image(source) as image:
            # Of a TIFF Pillow turns the size, and when it is decoded the pixels, by itself.
            is_turned = image.format != "TIFF" and _orientation(image) in TURNED
            return (image.width, image.height) if is_turned else (image.height, image.width)
    except ImageError:
        return None


def _read(image: Image.Image, mode: str, side_px: int) -> Image.Image:
    enough_px = 4 * side_px
    num_pixels = image.width * image.height
    is_huge = num_pixels > HUGE_PX
    with _one_huge_image if is_huge else nullcontext():
        if is_huge:
            # JPEG can leave out the fine frequencies while it decodes.
            image.draft(image.mode, (enough_px, enough_px))
        check_memory(image, num_pixels)
        image.load()
        factor = max(1, min(image.size) // enough_px) if is_huge else 1
        return _upright(image, _convert_huge(image, mode, factor) if is_huge else _convert(image, mode))


def _convert_huge(image: Image.Image, mode: str, factor: int) -> Image.Image:
    """Converted and made smaller strip by strip, so that no second copy of the whole is needed."""
    small = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, STRIP_PX // (factor * image.width))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        # Before the conversion where neighbours may be averaged: not in palettes.
        before = factor if image.mode in AVERAGED and not image.has_transparency_data else 1
        strip = _convert(strip.reduce(before), mode)
        small.paste(strip.reduce(factor // before), (0, top // factor))
    return small


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    # EXIF data that cannot be read says nothing about the orientation.
    except Exception:
        return 1


def _upright(original: Image.Image, image: Image.Image) -> Image.Image:
    turn = TURNS.get(_orientation(original))
    return image if turn is None else image.transpose(turn)


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
