"""Files of strangers: what is no regular file, of no known format or beyond a limit is named, and waits for nobody."""

import io
import os
import socket
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaformer.data.decode import image_source
from metaformer.data.decode.image_file import ImageError, read_image, read_size
from metaformer.data.decode.image_url import ImageUrl, is_image_url
from metaformer.data.decode.jpeg_scans import count_scans


def content(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(side_px=32):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8))


def reason(source):
    with pytest.raises(ImageError) as caught:
        read_image(source, mode="RGB", side_px=8)
    assert read_size(source) is None
    return str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="pipes and sockets among files are Unix's")
def test_what_is_no_regular_file_is_named_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    assert reason(tmp_path / "pipe.png") == "a pipe (fifo), not a file"
    (tmp_path / "link.png").symlink_to("pipe.png")
    assert reason(tmp_path / "link.png") == "a pipe (fifo), not a file"
    # A socket's path has a hundred bytes at most.
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.png")
        assert reason(Path("s.png")) == "a socket, not a file"
    assert reason(Path("/dev/zero")) == "a device, not a file"
    assert reason(Path("/dev/null")) == "a device, not a file"
    assert reason(tmp_path) == "is a directory"
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert "symbolic link" in reason(tmp_path / "loop.png")
    assert reason(tmp_path / ("x" * 300)) == "file name too long"
    assert "null" in reason(Path("a\0b.png"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n", "PostScript"),
        (content(noise(), "EPS"), "PostScript"),
        (content(noise(), "PDF"), "a PDF document"),
        (content(noise(), "ICO"), "an icon"),
        (b"8BPS\0\1" + bytes(40), "a Photoshop file"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "a Windows metafile"),
        (b"\n <!DOCTYPE HTML><html><body>404</body></html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "the placeholder of a Git LFS file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "HEIC"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_another_kind_is_named_and_never_run(data, expected, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    assert reason(data).startswith(f"not an image but {expected}")


def test_each_limit_is_told(tmp_path, monkeypatch):
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(300 << 20)
    assert reason(tmp_path / "long.png") == "the file has 300 MiB; the limit is 256"
    assert reason(content(Image.new("1", (20_000, 10_000)))) == "more than 178 megapixels, the limit"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason(content(Image.new("1", (20_000, 10_000)))) == "has 200 megapixels; the limit is 178"
    header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 12000, 12000, 1, 24, *[0] * 6)
    with pytest.raises(ImageError, match=r"^takes 549 MiB when it is decoded; the limit is 400$"):
        read_image(header, mode="RGB", side_px=8)
    monkeypatch.setattr(image_source, "MAX_CPU_S", -1.0)
    with pytest.raises(ImageError, match=r"^takes more than -1 s to decode$"):
        read_image(content(noise()), mode="RGB", side_px=8)


@pytest.mark.parametrize(("kind", "before"), [(b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")])
def test_packed_words_in_a_png_are_not_unpacked_without_end(kind, before):
    data, packed = content(noise()), before + zlib.compress(bytes(20 << 20), 9)
    place = data.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(packed)) + kind + packed + struct.pack(">I", zlib.crc32(kind + packed))
    assert reason(data[:place] + chunk + data[place:]) == (
        "its text or colour profile takes more than 1 MiB unpacked, the limit"
    )


def with_scans(side_px, num_more):
    data = content(Image.new("L", (side_px, side_px), 128), "JPEG", progressive=True)
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * num_more + b"\xff\xd9"


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded():
    assert reason(with_scans(1000, 1500)).startswith("its 1,506 scans of 1.0 megapixels are 1,506 to decode; the limit")
    assert read_image(with_scans(64, 100), mode="RGB", side_px=8).size == (64, 64)


def test_scans_are_counted_without_those_of_thumbnails_and_of_images_behind():
    thumbnail = content(noise(8), "JPEG")
    assert count_scans(io.BytesIO(content(noise(), "JPEG"))) == 1
    assert count_scans(io.BytesIO(content(noise(), "JPEG", comment=thumbnail))) == 1
    assert count_scans(io.BytesIO(content(noise(), "JPEG") + thumbnail * 3)) == 1
    file = io.BytesIO(content(noise(), "JPEG", progressive=True))
    file.seek(7)
    assert count_scans(file) == 10
    assert file.tell() == 7
    for length in (0, 1, 3, 20, 200):
        count_scans(io.BytesIO(content(noise(), "JPEG")[:length]))


def test_damaged_tiffs_say_nothing_to_stderr(run_python):
    said = run_python(
        """
import io
import numpy as np
from PIL import Image
from metaformer.data.decode.image_file import ImageError, read_image
random = np.random.default_rng(0)
image = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    for _ in range(20):
        broken = bytearray(file.getvalue())
        for place in random.integers(0, len(broken), 6):
            broken[place] ^= 0x55
        try:
            read_image(bytes(broken), mode="RGB", side_px=8)
        except ImageError:
            pass
"""
    )
    assert said == ""


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = content(noise().crop((0, 0, 32, 16)), form, exif=exif)
    image = read_image(data, mode="RGB", side_px=8)
    assert read_size(data) == (image.height, image.width) == ((16, 32) if orientation < 5 else (32, 16))


@pytest.fixture
def server():
    pictures = {"/a.png": content(noise()), "/half.png": content(noise())[:100]}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            data = pictures.get(self.path)
            self.send_response(200 if data else 404)
            self.end_headers()
            self.wfile.write(data or b"nothing here")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_an_address_is_downloaded_within_the_limits(server, monkeypatch):
    assert is_image_url(f"{server}/a.png")
    assert not is_image_url("a.png")
    assert not is_image_url("file:///etc/passwd")
    assert read_image(ImageUrl(f"{server}/a.png"), mode="RGB", side_px=8).size == (32, 32)
    assert reason(ImageUrl(f"{server}/b.png")) == "the download failed: HTTP Error 404: Not Found"
    with pytest.raises(ImageError):
        read_image(ImageUrl(f"{server}/half.png"), mode="RGB", side_px=8)
    assert reason(ImageUrl("http://127.0.0.1:1/a.png")).startswith("the download failed: ")
    assert reason(ImageUrl("http://")).isprintable()
    monkeypatch.setattr(image_source, "MAX_FILE_MIB", 0)
    monkeypatch.setattr(image_source, "download", lambda url, most: bytes(2 << 20))
    assert reason(ImageUrl(f"{server}/a.png")) == "the file has 2 MiB; the limit is 0"
