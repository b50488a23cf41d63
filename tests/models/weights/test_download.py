"""Downloads from a server on this machine: cached, resumed, and refused when they changed."""

import http.server
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from metaformer.core.errors import DataError
from metaformer.models.weights import download

CONTENT = bytes(range(256)) * 4096


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; understands ranges; breaks off where `cut` says."""

    protocol_version = "HTTP/1.0"
    requests: ClassVar[list[str | None]] = []
    cut: int | None = None
    knows_ranges = True

    def do_GET(self):
        wanted = self.headers.get("Range")
        type(self).requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.knows_ranges else 0
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.cut])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    Server.requests, Server.cut, Server.knows_ranges = [], None, True
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


def test_a_file_that_changed_since_is_refused(server):
    path = download.fetch(server)
    path.write_bytes(b"other" + CONTENT[5:])
    with pytest.raises(DataError, match="is not what it was when it was downloaded"):
        download.fetch(server)


def test_a_missing_file_is_one_line(server):
    with pytest.raises(DataError, match=r"cannot download http://127\.0\.0\.1:\d+/missing\.pth: HTTP Error 404"):
        download.fetch(server.replace("weights", "missing"))


def test_no_server_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="Connection refused"):
        download.fetch("http://127.0.0.1:9/x.pth")


def test_a_hub_id_needs_owner_and_name():
    with pytest.raises(DataError, match="a hub id is hf://owner/name"):
        download.fetch("hf://alone")


def test_a_hub_id_is_looked_for_as_safetensors_first_and_stays_what_it_was(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "pytorch_model.bin").write_bytes(CONTENT)
    asked = []

    def fake(repo, file):
        asked.append((repo, file))
        if file.endswith(".safetensors"):
            raise huggingface_hub.errors.EntryNotFoundError("no such file")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake)
    assert download.fetch("hf://owner/name") == Path(tmp_path / "pytorch_model.bin")
    assert asked == [("owner/name", "model.safetensors"), ("owner/name", "pytorch_model.bin")]
    assert download.fetch("hf://owner/name/pytorch_model.bin").name == "pytorch_model.bin"
    (tmp_path / "pytorch_model.bin").write_bytes(b"other")
    with pytest.raises(DataError, match="is not what it was when it was downloaded from hf://owner/name/pytorch_model"):
        download.fetch("hf://owner/name")
