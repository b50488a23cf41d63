"""Downloads from a server on this machine: cached, resumed, and refused when they changed."""

import http.server
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from metaformer.core.errors import DataError
from metaformer.models.weights import download

CONTENT = bytes(range(256)) * 4096


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` under a tag; understands ranges of that version; breaks off where `cut` says."""

    protocol_version = "HTTP/1.0"
    requests: ClassVar[list[str | None]] = []
    cut: int | None = None
    knows_ranges = True
    content: bytes = CONTENT
    pause_s = 0.0

    @property
    def tag(self):
        return f'"{hash(self.content):x}"'

    def do_GET(self):
        wanted = self.headers.get("Range")
        type(self).requests.append(wanted)
        same = self.headers.get("If-Range", self.tag) == self.tag
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.knows_ranges and same else 0
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if start >= len(self.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.send_header("ETag", self.tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        for at in range(start, len(self.content), 1 << 18):
            self.wfile.write(self.content[at : min(at + (1 << 18), self.cut or len(self.content))])
            time.sleep(self.pause_s)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    Server.requests, Server.cut, Server.knows_ranges = [], None, True
    Server.content, Server.pause_s = CONTENT, 0.0
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/weights.pth"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_path_is_left_as_it_is(tmp_path):
    assert download.fetch(tmp_path / "x.pth") == tmp_path / "x.pth"


def test_a_url_is_downloaded_once(server):
    first, second = download.fetch(server), download.fetch(server)
    assert first == second
    assert first.read_bytes() == CONTENT
    assert first.name == "weights.pth"
    assert len(Server.requests) == 1


@pytest.mark.parametrize("knows_ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_broken_download_says_so_and_goes_on(server, knows_ranges):
    Server.cut, Server.knows_ranges = 300_000, knows_ranges
    with pytest.raises(DataError, match="Run the same command again to continue"):
        download.fetch(server)
    Server.cut = None
    assert download.fetch(server).read_bytes() == CONTENT
    assert Server.requests == [None, "bytes=300000-"]


def test_a_part_that_is_whole_already_is_downloaded_anew(server):
    Server.cut = 300_000
    with pytest.raises(DataError):
        download.fetch(server)
    part = next(download.cache_folder().rglob("*.part"))
    part.write_bytes(CONTENT)
    Server.cut = None
    assert download.fetch(server).read_bytes() == CONTENT


def test_a_part_of_another_version_is_not_continued(server):
    Server.cut = 300_000
    with pytest.raises(DataError):
        download.fetch(server)
    Server.cut, Server.content = None, CONTENT[::-1]
    assert download.fetch(server).read_bytes() == CONTENT[::-1]


def test_a_part_of_which_nobody_knows_the_version_is_not_continued(server):
    Server.cut = 300_000
    with pytest.raises(DataError):
        download.fetch(server)
    next(download.cache_folder().rglob("*.version")).unlink()
    Server.cut = None
    assert download.fetch(server).read_bytes() == CONTENT
    assert Server.requests == [None, None]


DAMAGE = {
    "flipped": lambda path: path.write_bytes(b"other" + CONTENT[5:]),
    "cut off": lambda path: path.write_bytes(CONTENT[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "without a seal": lambda path: path.with_name(f"{path.name}.seal").unlink(),
    "with a damaged seal": lambda path: path.with_name(f"{path.name}.seal").write_bytes(bytes([255] * 9)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_download_is_downloaded_anew(server, damage):
    damage(download.fetch(server))
    assert download.fetch(server).read_bytes() == CONTENT
    assert len(Server.requests) == 2
    download.fetch(server)
    assert len(Server.requests) == 2


def test_a_source_that_changed_since_is_refused_and_nothing_is_replaced(server):
    path = download.fetch(server)
    path.write_bytes(b"damaged")
    Server.content = CONTENT[::-1]
    with pytest.raises(DataError, match=r"is not what it was when it was downloaded first\. If you trust"):
        download.fetch(server)
    assert path.read_bytes() == b"damaged"
    path.with_name("weights.pth.seal").unlink()
    assert download.fetch(server).read_bytes() == CONTENT[::-1]


def fetch_into(queue, url):
    queue.put(download.fetch(url).read_bytes() == CONTENT)


def test_six_processes_and_six_threads_that_want_one_file_get_it_whole(server):
    Server.pause_s = 0.02
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=fetch_into, args=(queue, server)) for _ in range(6)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(download.fetch, [server] * 6))
    assert [queue.get(timeout=60) for _ in processes] == [True] * 6
    for process in processes:
        process.join()
    assert {path.read_bytes() == CONTENT for path in paths} == {True}
    assert len(Server.requests) == 1
    assert list(download.cache_folder().rglob("*.part")) == []


def test_a_web_page_is_no_weights_file(server):
    Server.content = b"<!DOCTYPE html><html></html>"
    with pytest.raises(DataError, match="gives a web page, not a weights file"):
        download.fetch(server)
    Server.content = CONTENT
    assert download.fetch(server).read_bytes() == CONTENT


def test_a_missing_file_is_one_line(server):
    with pytest.raises(DataError, match=r"cannot download http://127\.0\.0\.1:\d+/missing\.pth: HTTP Error 404"):
        download.fetch(server.replace("weights", "missing"))


def test_no_server_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="Connection refused"):
        download.fetch("http://127.0.0.1:9/x.pth")


@pytest.mark.parametrize("source", ["hf://alone", "hf-hub:alone", "hf_hub:alone", "hf://", "hf:///name"])
def test_a_hub_id_needs_owner_and_name(source):
    with pytest.raises(DataError, match="a hub id is hf://owner/name"):
        download.fetch(source)


@pytest.mark.parametrize("url", ["http://", "http://[", "https://?"])
def test_what_is_no_url_is_one_line(monkeypatch, tmp_path, url):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="cannot download"):
        download.fetch(url)


def test_a_hub_id_is_looked_for_as_safetensors_first_and_stays_what_it_was(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "pytorch_model.bin").write_bytes(CONTENT)
    asked = []

    def fake(repo, file, revision=None, force_download=False):
        asked.append((repo, file))
        if file.endswith(".safetensors"):
            raise huggingface_hub.errors.EntryNotFoundError("no such file")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake)
    assert download.fetch("hf://owner/name") == Path(tmp_path / "pytorch_model.bin")
    assert asked == [("owner/name", "model.safetensors"), ("owner/name", "pytorch_model.bin")]
    assert download.fetch("hf-hub:owner/name@v1/pytorch_model.bin").name == "pytorch_model.bin"
    (tmp_path / "pytorch_model.bin").write_bytes(b"other")
    with pytest.raises(DataError, match=r"hf://owner/name/pytorch_model\.bin gives is not what it was"):
        download.fetch("hf://owner/name")
