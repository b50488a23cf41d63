"""Odd and broken images: what a viewer shows, or a reason in a few words."""

import io
import threading
import tracemalloc
import warnings
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from metaformer.data.decode import image_file
from metaformer.data.decode.image_file import HUGE_PX, ImageError, read_image


def content(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def grey(values, mode="RGB", **options):
    image = read_image(content(Image.fromarray(np.array(values, dtype=np.uint16)), **options), mode=mode, side_px=8)
    return image.getpixel((0, 0))


def noise(side_px=32):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8))


def test_16_bits_are_scaled_and_not_cut_off():
    # Pillow's own conversion makes everything above 255 white.
    assert grey([[32768]]) == (128, 128, 128)
    assert grey([[65535]], mode="L") == 255
    assert grey([[128]], mode="L") == 0


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), {}, (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 51)), {}, (255, 204, 204)),
        (Image.new("LA", (4, 4), (0, 0)), {}, (255, 255, 255)),
        (Image.new("P", (4, 4), 0), {"transparency": 0}, (255, 255, 255)),
        (Image.new("L", (4, 4), 7), {"transparency": 7}, (255, 255, 255)),
        (Image.new("RGB", (4, 4), (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255)),
        (Image.new("1", (4, 4), 1), {}, (255, 255, 255)),
        (Image.new("RGB", (4, 4), (9, 99, 199)).quantize(4), {}, (9, 99, 199)),
    ],
    ids=["rgba", "half transparent", "la", "palette with hole", "grey with hole", "rgb with hole", "bits", "palette"],
)
def test_transparent_parts_lie_on_white_and_palettes_become_colours(image, options, expected):
    read = read_image(content(image, **options), mode="RGB", side_px=8)
    assert read.mode == "RGB"
    assert read.getpixel((1, 1)) == expected


def test_a_cmyk_photograph_is_shown_in_its_colours():
    data = content(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = read_image(data, mode="RGB", side_px=8).getpixel((8, 8))
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_exif_is_applied(orientation):
    upright = np.zeros((4, 6), dtype=np.uint8)
    upright[0, 0], upright[0, -1], upright[-1, 0] = 255, 128, 64
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = content(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(np.asarray(read_image(data, mode="L", side_px=2)), upright)


def test_exif_data_that_is_nonsense_does_no_harm():
    data = content(noise(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    assert read_image(data, mode="RGB", side_px=8).size == (32, 32)


def test_fractions_are_scaled_and_strange_ones_refused():
    tiff = content(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), "TIFF")
    assert read_image(tiff, mode="L", side_px=2).getpixel((0, 0)) == 128
    with pytest.raises(ImageError, match=r"fractions from -3 to -3; a viewer knows 0 to 1"):
        read_image(content(Image.fromarray(np.full((4, 4), -3, dtype=np.float32)), "TIFF"), mode="L", side_px=2)
    with pytest.raises(ImageError, match=r"from 70000 to 70000; a viewer knows 0 to 65535"):
        read_image(content(Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)), "TIFF"), mode="L", side_px=2)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = content(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data, mode="RGB", side_px=2).getpixel((0, 0)) == (255, 0, 0)


def test_the_smallest_image_is_an_image():
    assert read_image(content(Image.new("RGB", (1, 1), "red")), mode="RGB", side_px=224).size == (1, 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_an_error_in_every_format(form):
    data = content(noise(64), form)
    read_image(data, mode="RGB", side_px=8)
    with pytest.raises(ImageError) as caught:
        read_image(data[: len(data) // 2], mode="RGB", side_px=8)
    assert str(caught.value).strip()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<svg/>" * 10, "not an image but an SVG drawing"),
        (b"some text", "not an image that Pillow can read"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "."),
    ],
    ids=["empty", "drawing", "no image", "only a start"],
)
def test_what_is_no_image_says_so(data, reason):
    with pytest.raises(ImageError, match=reason):
        read_image(data, mode="RGB", side_px=8)


def test_files_that_cannot_be_opened_say_why(tmp_path):
    with pytest.raises(ImageError, match=r"^no such file or directory$"):
        read_image(tmp_path / "absent.png", mode="RGB", side_px=8)
    with pytest.raises(ImageError, match=r"^is a directory$"):
        read_image(tmp_path, mode="RGB", side_px=8)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"^the file is empty$"):
        read_image(tmp_path / "empty.png", mode="RGB", side_px=8)


def test_damaged_files_of_every_kind_raise_nothing_else():
    random = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        data = np.frombuffer(content(noise(24), form), dtype=np.uint8)
        for _ in range(40):
            broken = data.copy()
            broken[random.integers(0, len(data), 8)] = random.integers(0, 256, 8)
            with suppress(ImageError):
                assert read_image(broken.tobytes(), mode="RGB", side_px=8).mode == "RGB"


def test_a_wide_photograph_is_read_small():
    data = content(Image.new("RGB", (20_000, 1_600), "teal"), "JPEG")
    assert HUGE_PX < 20_000 * 1_600
    image = read_image(data, mode="RGB", side_px=100)
    assert min(image.size) >= 400
    assert image.width * image.height < HUGE_PX // 4
    assert image.getpixel((5, 5)) == pytest.approx((0, 128, 128), abs=4)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (noise(90), {}),
        (noise(90).convert("L"), {}),
        (noise(90).convert("RGBA"), {}),
        (noise(90).convert("LA"), {}),
        (noise(90).quantize(16), {"transparency": 3}),
        (noise(90), {"transparency": (255, 255, 255)}),
        (Image.fromarray(np.random.default_rng(0).integers(0, 65536, (90, 90), dtype=np.uint16)), {}),
    ],
    ids=["rgb", "grey", "alpha", "grey alpha", "palette with hole", "colour with hole", "16 bits"],
)
def test_what_is_made_smaller_in_strips_is_what_is_made_smaller_at_once(image, options, monkeypatch):
    data = content(image, **options)
    expected = read_image(data, mode="RGB", side_px=8).reduce(3)
    monkeypatch.setattr(image_file, "HUGE_PX", 100)
    monkeypatch.setattr(image_file, "STRIP_PX", 90 * 7)
    read = read_image(data, mode="RGB", side_px=7)
    assert read.size == expected.size
    assert np.array_equal(np.asarray(read), np.asarray(expected))


def test_pillows_limits_hold_without_a_warning(monkeypatch):
    data = content(noise(20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    # 400 pixels: above the limit that warns, below the one that stops.
    assert read_image(data, mode="RGB", side_px=8).size == (20, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"^more than 178 megapixels, the limit$"):
        read_image(data, mode="RGB", side_px=8)


def test_warnings_of_others_are_as_before_after_many_threads(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    before, data = list(warnings.filters), content(noise(20))
    threads = [
        threading.Thread(target=lambda: [read_image(data, mode="RGB", side_px=8) for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_an_image_already_open_is_converted_and_left_open():
    image = Image.new("CMYK", (4, 4))
    assert read_image(image, mode="RGB", side_px=2).mode == "RGB"
    assert image.getpixel((0, 0)) == (0, 0, 0, 0)


def test_memory_is_given_back():
    data = content(noise(256))
    read_image(data, mode="RGB", side_px=8)
    tracemalloc.start()
    for _ in range(50):
        read_image(data, mode="RGB", side_px=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6
