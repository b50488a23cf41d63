"""Odd and broken image files, made with a fixed seed: of each, its kind, its name, and whether a viewer shows it."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FORMS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}
FORMS |= {"TGA": "tga", "JPEG2000": "jp2", "AVIF": "avif"}
SIDE_PX = 40


@dataclass(frozen=True)
class OddImage:
    """A file that somebody might have among images."""

    kind: str
    name: str
    content: bytes
    is_readable: bool | None  # None: either is right, a reading or a reason


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(random: np.random.Generator, width: int = SIDE_PX, height: int = SIDE_PX) -> Image.Image:
    """An image that no format makes small."""
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def odd_images(seed: int, *, with_large: bool = True) -> Iterator[OddImage]:
    """All of them, one after the other.

    Args:
        seed: Decides the noise and the damage.
        with_large: Those too that take seconds to make.
    """
    random = np.random.default_rng(seed)
    yield from _healthy(random)
    yield from _modes(random)
    yield from _shapes(random)
    yield from _damaged(random)
    yield from _mislabelled(random)
    yield from _not_images(random)
    yield from _animated(random)
    yield from _bombs(random)
    if with_large:
        yield from _large()


def _healthy(random: np.random.Generator) -> Iterator[OddImage]:
    for form, suffix in FORMS.items():
        yield OddImage("images: healthy", f"healthy.{suffix}", encode(noise(random), form), True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(noise(random, 30, 20), "JPEG", exif=exif)
        yield OddImage("images: turned by EXIF", f"turned{orientation}.jpg", data, True)
    broken = encode(noise(random), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    yield OddImage("images: turned by EXIF", "broken_exif.jpg", broken, True)


def _modes(random: np.random.Generator) -> Iterator[OddImage]:
    colour = noise(random)
    grey16 = Image.fromarray(random.integers(0, 65536, (SIDE_PX, SIDE_PX), dtype=np.uint16))
    images = {
        "cmyk.jpg": encode(colour.convert("CMYK"), "JPEG"),
        "cmyk.tif": encode(colour.convert("CMYK"), "TIFF"),
        "grey16.png": encode(grey16),
        "grey16.tif": encode(grey16, "TIFF"),
        "grey16.pgm": encode(grey16, "PPM"),
        "bits.png": encode(colour.convert("1")),
        "bits.tif": encode(colour.convert("1"), "TIFF", compression="group4"),
        "grey.jpg": encode(colour.convert("L"), "JPEG"),
        "grey_alpha.png": encode(colour.convert("LA")),
        "alpha.png": encode(colour.convert("RGBA")),
        "alpha.webp": encode(colour.convert("RGBA"), "WEBP"),
        "palette.png": encode(colour.quantize(16)),
        "palette_hole.png": encode(colour.quantize(16), transparency=3),
        "palette_alphas.png": encode(colour.quantize(16), transparency=bytes(range(16))),
        "palette.gif": encode(colour.quantize(200), "GIF"),
        "lab.tif": encode(colour.convert("LAB"), "TIFF"),
        "ycbcr.tif": encode(colour.convert("YCbCr"), "TIFF"),
        "fractions.tif": encode(Image.fromarray(random.random((SIDE_PX, SIDE_PX), dtype=np.float32)), "TIFF"),
        "progressive.jpg": encode(colour, "JPEG", progressive=True),
        "interlaced.gif": encode(colour, "GIF", interlace=1),
    }
    for name, data in images.items():
        yield OddImage("images: unusual colours", name, data, True)
    strange = Image.fromarray(np.full((SIDE_PX, SIDE_PX), -3.0, dtype=np.float32))
    yield OddImage("images: unusual colours", "negative.tif", encode(strange, "TIFF"), False)
    not_numbers = Image.fromarray(np.full((SIDE_PX, SIDE_PX), np.nan, dtype=np.float32))
    yield OddImage("images: unusual colours", "nan.tif", encode(not_numbers, "TIFF"), False)


def _shapes(random: np.random.Generator) -> Iterator[OddImage]:
    for width, height in ((1, 1), (1, 10_000), (10_000, 1), (2, 3), (1000, 231), (7, 300), (65_000, 2), (333, 1)):
        for form in ("PNG", "JPEG"):
            data = encode(noise(random, width, height), form)
            yield OddImage("images: extreme shapes", f"{width}x{height}.{FORMS[form]}", data, True)


def _damaged(random: np.random.Generator) -> Iterator[OddImage]:
    for form, suffix in FORMS.items():
        whole = encode(noise(random), form)
        for share in (0.0, 0.1, 0.5, 0.95):
            is_readable = None if share > 0.9 else False
            yield OddImage("images: truncated", f"cut{share}.{suffix}", whole[: int(share * len(whole))], is_readable)
        for number in range(4):
            broken = bytearray(whole)
            for place in random.integers(0, len(broken), 8):
                broken[place] ^= int(random.integers(1, 256))
            yield OddImage("images: flipped bytes", f"flipped{number}.{suffix}", bytes(broken), None)
    tail = encode(noise(random)) + b"more behind it" * 9
    yield OddImage("images: flipped bytes", "tail.png", tail, True)


def _mislabelled(random: np.random.Generator) -> Iterator[OddImage]:
    for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        wrong = "jpg" if form != "JPEG" else "png"
        yield OddImage("images: another format's suffix", f"is_{form}.{wrong}", encode(noise(random), form), True)


def _not_images(random: np.random.Generator) -> Iterator[OddImage]:
    contents = {
        "html.jpg": b"<!DOCTYPE html><html><head><title>404</title></head></html>",
        "html_blank.png": b"\r\n\r\n  <html>sign in</html>",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
        "eps.png": encode(noise(random), "EPS"),
        "dos_eps.png": b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, 40, 0, 0, 0, 0) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "pdf.jpg": encode(noise(random), "PDF"),
        "icon.png": encode(noise(random), "ICO"),
        "icns.png": encode(Image.new("RGBA", (128, 128)), "ICNS"),
        "photoshop.jpg": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(400),
        "metafile.png": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "emf.png": struct.pack("<II", 1, 88) + bytes(32) + b" EMF" + bytes(60),
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "xml.png": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "json.png": b'{"error": "not found"}',
        "lfs.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
        "mp4.jpg": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(100),
        "zip.png": b"PK\3\4" + bytes(60),
        "elf.png": b"\x7fELF" + bytes(100),
        "zeros.png": bytes(1000),
        "empty.jpg": b"",
        "one_byte.png": b"\x89",
        "text.tga": b"some words\n" * 9,
        "random.tga": random.bytes(500),
        "random.png": random.bytes(5000),
        "gif_no_frame.gif": b"GIF89a\x10\0\x10\0\x80\0\0\0\0\0\xff\xff\xff;",
        "gif_no_palette.gif": b"GIF89a\x10\0\x10\0\0\0\0;",
        "png_no_pixels.png": b"\x89PNG\r\n\x1a\n" + _chunk(b"IEND", b""),
        "png_zero_wide.png": b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 8, 8, 2, 0, 0, 0))
        + _chunk(b"IEND", b""),
        "jpeg_no_scan.jpg": b"\xff\xd8\xff\xd9",
        "bmp_negative.bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<Iii", 40, -5, -5) + bytes(28),
        "tiff_loop.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "ppm_letters.ppm": b"P3\nten ten\n255\n1 2 3\n",
    }
    for name, data in contents.items():
        yield OddImage("images: no images", name, data, False if not name.startswith("random") else None)


def _animated(random: np.random.Generator) -> Iterator[OddImage]:
    frames = [noise(random) for _ in range(3)]
    for form, suffix in {"GIF": "gif", "WEBP": "webp", "PNG": "png", "TIFF": "tif", "AVIF": "avif"}.items():
        data = encode(frames[0], form, save_all=True, append_images=frames[1:])
        yield OddImage("images: animated, many pages", f"frames.{suffix}", data, True)
    mpo = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    yield OddImage("images: animated, many pages", "mpo.jpg", mpo, True)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_one_colour(width: int, height: int, *, colours: int = 2) -> bytes:
    """A PNG of any size, made row by row; colours 0: grey, 2: RGB, 6: RGBA."""
    pack, row = zlib.compressobj(1), bytes(1 + width * {0: 1, 2: 3, 6: 4}[colours])
    packed = b"".join(pack.compress(row) for _ in range(height)) + pack.flush()
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _bombs(random: np.random.Generator) -> Iterator[OddImage]:
    whole = encode(noise(random))
    place = whole.index(b"IDAT") - 4
    packed = zlib.compress(bytes(30 << 20), 9)
    for kind, before in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        data = whole[:place] + _chunk(kind, before + packed) + whole[place:]
        yield OddImage("images: bombs", f"{kind.decode()}.png", data, False)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    yield OddImage("images: bombs", "60000.png", bomb, False)
    for side in (20_000, 65_535):
        gif = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0\0\0\0\xff\xff\xff"
        gif += b"," + struct.pack("<4HB", 0, 0, side, side, 0) + b"\2\2\x44\1\0;"
        yield OddImage("images: bombs", f"{side}.gif", gif, False)
        bmp = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, *[0] * 6)
        yield OddImage("images: bombs", f"{side}.bmp", bmp, False)
    yield OddImage("images: bombs", "60000.ppm", b"P6\n60000 60000\n255\n", False)
    scans = encode(Image.new("L", (1000, 1000), 128), "JPEG", progressive=True)
    scans = scans[:-2] + scans[scans.rfind(b"\xff\xda") : -2] * 1500 + b"\xff\xd9"
    yield OddImage("images: bombs", "scans.jpg", scans, False)


def _large() -> Iterator[OddImage]:
    yield OddImage("images: large", "100mp.png", png_of_one_colour(10_000, 10_000), True)
    yield OddImage("images: large", "100mp_alpha.png", png_of_one_colour(10_000, 10_000, colours=6), True)
    yield OddImage("images: large", "170mp_grey.png", png_of_one_colour(13_000, 13_000, colours=0), True)
    yield OddImage("images: large", "170mp.png", png_of_one_colour(13_000, 13_000), False)
    yield OddImage("images: large", "150mp.jpg", encode(Image.new("RGB", (14_000, 10_800), "teal"), "JPEG"), True)
    yield OddImage("images: large", "12mp.webp", encode(Image.new("RGB", (4000, 3000), "teal"), "WEBP"), True)
    yield OddImage("images: large", "30mp.webp", encode(Image.new("RGB", (6000, 5000), "teal"), "WEBP"), False)
    yield OddImage("images: large", "90mp.tif", encode(Image.new("RGB", (9500, 9500), "teal"), "TIFF"), True)


def write_specials(folder: Path) -> list[str]:
    """Things of the file system under an image's name that are no regular files; the names of those made."""
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.jpg").mkdir()
    (folder / "nowhere.png").symlink_to("is_not_there")
    (folder / "round.png").symlink_to("round.png")
    (folder / "pipe_link.jpg").symlink_to("pipe.png")
    made = ["pipe.png", "nowhere.png", "round.png", "pipe_link.jpg"]
    if Path("/dev/zero").exists():
        (folder / "zeros.jpg").symlink_to("/dev/zero")
        made.append("zeros.jpg")
    return made


NAMES = (
    b"caf\xe9.png",
    b"new\nline.png",
    b"tab\t.png",
    b"\x1b[31mred.png",
    b"\xe2\x80\xaeright to left.png",
    b"'quote\".png",
    b"[bold]markup[bold].png",
    b" blank .png",
    b"-r.png",
    b"{}%s.png",
    b"\xff\xfe.png",
    b"x" * 251 + b".png",
    "猫ü.png".encode(),
)
