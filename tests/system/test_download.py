"""fetch.py: downloads from a real server on this machine, whole, broken off and wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import FetchError, UsageError
from sharpreel.system import download

CONTENT = bytes(range(256)) * 9000  # more than two chunks
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """What the next requests get, and the ranges that were requested."""

    def __init__(self) -> None:
        self.content, self.etag = CONTENT, '"v1"'
        self.break_after: list[int] = []  # bytes sent before the connection ends, one a request
        self.codes: list[int] = []  # answered before anything is sent
        self.ranges: list[str | None] = []
        self.knows_ranges = True
        self.url = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested = self.headers.get("Range")
            state.ranges.append(requested)
            if state.codes:
                self.send_error(state.codes.pop(0))
                return
            begin = 0
            same = self.headers.get("If-Range", state.etag) == state.etag
            if requested and state.knows_ranges and same:
                begin = int(requested.removeprefix("bytes=").removesuffix("-"))
                if begin >= len(state.content):
                    self.send_error(416)
                    return
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(state.content) - begin))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            end = begin + state.break_after.pop(0) if state.break_after else None
            self.wfile.write(state.content[begin:end])

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/model.pth"
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("SHARPREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SHARPREEL_OFFLINE", raising=False)
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_file_is_downloaded_once_and_renamed_when_complete(
    server: Server, tmp_path: Path
) -> None:
    progress: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "model.pth"
    download.download(server.url, target, SUM, lambda done, total: progress.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in target.parent.iterdir()] == ["model.pth"]
    download.download(server.url, target, SUM)
    assert len(server.ranges) == 1


def test_a_broken_download_resumes_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 200_000, 50_000, 1_000]  # more breaks than tries without gain
    download.download(server.url, tmp_path / "m", SUM)
    assert (tmp_path / "m").read_bytes() == CONTENT
    assert server.ranges == [
        None,
        "bytes=100000-",
        "bytes=300000-",
        "bytes=350000-",
        "bytes=351000-",
    ]


def test_a_partial_download_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 0, 0]
    with pytest.raises(FetchError, match="run the same command again to resume"):
        download.download(server.url, tmp_path / "m", SUM)
    assert (tmp_path / "m.part").stat().st_size == 100_000
    download.download(server.url, tmp_path / "m", SUM)
    assert server.ranges[-1] == "bytes=100000-"
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_downloaded_from_scratch(
    server: Server, tmp_path: Path
) -> None:
    server.break_after = [100_000, 0, 0]
    with pytest.raises(FetchError):
        download.download(server.url, tmp_path / "m")
    server.content, server.etag = CONTENT[::-1], '"v2"'
    download.download(server.url, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_part_of_another_file_is_discarded(
    knows_ranges: bool, server: Server, tmp_path: Path
) -> None:
    server.knows_ranges, server.etag = knows_ranges, ""
    (tmp_path / "m.part").write_bytes(b"x" * 1000)
    download.download(server.url, tmp_path / "m", SUM)
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_a_complete_part_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(CONTENT)
    download.download(server.url, tmp_path / "m", SUM[:8])
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="checksum mismatch") as refused:
        download.download(server.url, tmp_path / "m", "00112233")
    assert refused.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_the_status_of_the_server_is_in_the_error(server: Server, tmp_path: Path) -> None:
    server.codes = [404]
    with pytest.raises(FetchError, match="the server answers 404"):
        download.download(server.url, tmp_path / "m", SUM)
    assert len(server.ranges) == 1
    server.codes = [503, 503]  # a busy server is tried again
    download.download(server.url, tmp_path / "m", SUM)
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_an_unreachable_server_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0,))
    with pytest.raises(FetchError, match="cannot be downloaded"):
        download.download("http://127.0.0.1:9/m", tmp_path / "m", SUM)


def test_an_unpublished_checksum_is_recorded_at_the_first_download(server: Server) -> None:
    path = download.cached("m.pth", server.url)
    pin = path.with_name("m.pth.sha256")
    assert pin.read_text().split() == [SUM, "m.pth"]
    download.validate_checksum(path, "", SUM)
    with pytest.raises(FetchError, match=r"its first download's, in m\.pth\.sha256"):
        download.validate_checksum(path, "", "f" * 64)


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_nothing_is_downloaded_and_the_error_names_the_url(
    by: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("SHARPREEL_OFFLINE", "1")
    with pytest.raises(FetchError, match=f"Download it from {server.url}"):
        download.cached("m.pth", server.url, SUM, offline=by == "argument")
    assert server.ranges == []
    (download.cache_folder()).mkdir(parents=True)
    (download.cache_folder() / "m.pth").write_bytes(CONTENT)
    assert download.cached("m.pth", server.url, SUM, offline=True).is_file()


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        download.download(server.url, tmp_path / "file" / "m", SUM)


def test_the_environment_names_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARPREEL_CACHE", "/somewhere")
    assert download.cache_folder() == Path("/somewhere")
    monkeypatch.delenv("SHARPREEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/else")
    assert download.cache_folder() == Path("/else/sharpreel")
