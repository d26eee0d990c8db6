"""datasets.py: a small data set from a real local server, broken off, resumed, refused."""

from __future__ import annotations

import io
import re
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from sharpreel.data import downloads
from sharpreel.data.downloads import DATASETS, Dataset, File, fetch_dataset, unpack
from sharpreel.errors import DiskFullError, FetchError, SharpreelError, UsageError
from sharpreel.system import download
from tests.support.videos import png

CLIPS = ("00001/0001", "00001/0002", "00002/0007")


def septuplets() -> dict[str, bytes]:
    """Members of an archive laid out as Vimeo-90K: three clips of seven images, and lists."""
    rng = np.random.default_rng(0)
    image = png(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    members = {
        f"vimeo_septuplet/sequences/{clip}/im{k}.png": image + bytes([k])
        for clip in CLIPS
        for k in range(1, 8)
    }
    members["vimeo_septuplet/sep_trainlist.txt"] = b"00001/0001\n00001/0002\n"
    members["vimeo_septuplet/sep_testlist.txt"] = b"00002/0007\n"
    return members


MEMBERS = septuplets()


def zipped(
    members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None
) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("vimeo_septuplet/")
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if change is not None:
                change(info)
            archive.writestr(info, content)
    return memory.getvalue()


class Server(NamedTuple):
    """What lies where, the bytes after which the next connections end, and what was asked for."""

    url: str
    content: dict[str, bytes]
    break_after: list[int]
    asked: list[tuple[str, str | None]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append((self.path, asked))
            if self.path not in state.content:
                self.send_error(404)
                return
            content = state.content[self.path]
            begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.send_header("ETag", '"one"')
            self.end_headers()
            end = begin + state.break_after.pop(0) if state.break_after else None
            self.wfile.write(content[begin:end])

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    content = {"/set/vimeo_septuplet.zip": zipped(MEMBERS)}
    state = Server(f"http://127.0.0.1:{http.server_port}", content, [], [])
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    monkeypatch.delenv("SHARPREEL_OFFLINE", raising=False)
    row = DATASETS["vimeo90k"]
    tiny = replace(row, name="tiny", files=(File(f"{state.url}/set/vimeo_septuplet.zip"),))
    monkeypatch.setitem(DATASETS, "tiny", tiny)
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


MARK = "vimeo_septuplet.zip.done"


def test_a_data_set_is_downloaded_unpacked_and_marked(server: Server, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int | None]] = []
    home = fetch_dataset("tiny", tmp_path / "new", lambda *words: reports.append(words))
    assert home == tmp_path / "new" / "vimeo_septuplet"
    found = files_of(tmp_path / "new")
    assert found.pop(MARK) == f"{server.url}/set/vimeo_septuplet.zip\n".encode()
    assert found == MEMBERS
    size, whole = len(server.content["/set/vimeo_septuplet.zip"]), sum(map(len, MEMBERS.values()))
    assert reports[0] == ("Downloading vimeo_septuplet.zip", size, size)
    assert reports[-1] == ("Unpacking vimeo_septuplet.zip", whole, whole)


def test_a_second_call_does_nothing(server: Server, tmp_path: Path) -> None:
    home = fetch_dataset("tiny", tmp_path)
    image = home / "sequences" / CLIPS[0] / "im1.png"
    image.write_bytes(b"mine")
    assert fetch_dataset("tiny", tmp_path) == home
    assert image.read_bytes() == b"mine"
    assert len(server.asked) == 1


def test_archives_are_kept_on_request(server: Server, tmp_path: Path) -> None:
    fetch_dataset("tiny", tmp_path, keep_archives=True)
    assert (tmp_path / "vimeo_septuplet.zip").is_file()
    assert (tmp_path / "vimeo_septuplet.zip.sha256").is_file()


def test_an_interrupted_download_resumes(server: Server, tmp_path: Path) -> None:
    server.break_after.extend([3000, 0, 0])
    with pytest.raises(FetchError, match="run the same command again to resume"):
        fetch_dataset("tiny", tmp_path)
    assert not (tmp_path / "vimeo_septuplet").exists()
    fetch_dataset("tiny", tmp_path)
    assert server.asked[-1] == ("/set/vimeo_septuplet.zip", "bytes=3000-")
    assert files_of(tmp_path).keys() == MEMBERS.keys() | {MARK}


def test_interrupted_unpacking_resumes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    honest = downloads._write

    def write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(member.filename)
        honest(opened, member, target)

    with monkeypatch.context() as patched:
        patched.setattr(downloads, "_write", write)
        with pytest.raises(KeyboardInterrupt):
            fetch_dataset("tiny", tmp_path)
    assert not (tmp_path / MARK).exists()
    half = tmp_path / written[0]  # as a crash of the machine leaves a file
    half.write_bytes(b"")
    untouched = tmp_path / written[1]
    before = untouched.stat().st_mtime_ns
    fetch_dataset("tiny", tmp_path)
    assert {k: v for k, v in files_of(tmp_path).items() if k != MARK} == MEMBERS
    assert untouched.stat().st_mtime_ns == before
    assert len(server.asked) == 1


def test_each_archive_is_finished_before_the_next_starts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content["/a%20b.zip"] = zipped({"b/1.txt": b"1"})
    two = (*DATASETS["tiny"].files, File(f"{server.url}/a%20b.zip"), File(f"{server.url}/no.zip"))
    monkeypatch.setitem(DATASETS, "tiny", replace(DATASETS["tiny"], files=two))
    with pytest.raises(FetchError, match="404"):
        fetch_dataset("tiny", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a b.zip.done",
        "b",
        "vimeo_septuplet",
        MARK,
    ]
    server.content["/no.zip"] = zipped({"c.txt": b"2"})
    fetch_dataset("tiny", tmp_path)
    assert [path for path, _ in server.asked[3:]] == ["/no.zip"]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:evil.txt"]
)
def test_members_outside_the_folder_are_rejected_before_anything_is_written(
    name: str, server: Server, tmp_path: Path
) -> None:
    server.content["/set/vimeo_septuplet.zip"] = zipped({**MEMBERS, name: b"x"})
    with pytest.raises(FetchError, match="outside the folder"):
        fetch_dataset("tiny", tmp_path / "in")
    assert {p.name for p in (tmp_path / "in").iterdir()} == {
        "vimeo_septuplet.zip",
        "vimeo_septuplet.zip.sha256",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_links_and_encrypted_members_are_rejected(tmp_path: Path) -> None:
    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16

    (tmp_path / "link.zip").write_bytes(zipped({"a": b"/etc"}, link))
    with pytest.raises(FetchError, match="'a' in it is a link"):
        unpack(tmp_path / "link.zip", tmp_path)
    secret = zipped({"a": b"x"})
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        where = secret.rindex(mark) + at
        secret = secret[:where] + bytes([secret[where] | 1]) + secret[where + 1 :]
    (tmp_path / "secret.zip").write_bytes(secret)
    with pytest.raises(FetchError, match="'a' in it is encrypted"):
        unpack(tmp_path / "secret.zip", tmp_path)
    assert not (tmp_path / "a").exists()


def test_an_existing_link_in_the_folder_is_not_followed_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "b").symlink_to(tmp_path / "out")
    (tmp_path / "a.zip").write_bytes(zipped({"b/c.txt": b"x"}))
    with pytest.raises(FetchError, match="outside the folder"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("hurt", ["directory", "member", "page"])
def test_a_damaged_archive_is_one_clear_error(hurt: str, server: Server, tmp_path: Path) -> None:
    good = server.content["/set/vimeo_septuplet.zip"]
    bad = {
        "directory": good[:-200],
        "member": good[:2000] + bytes(x ^ 255 for x in good[2000:2010]) + good[2010:],
        "page": b"<html>moved</html>",
    }[hurt]
    server.content["/set/vimeo_septuplet.zip"] = bad
    with pytest.raises(FetchError, match=r"is damaged, or not a ZIP file .*Delete it") as refused:
        fetch_dataset("tiny", tmp_path)
    assert refused.value.exit_code == 3
    assert not (tmp_path / MARK).exists()
    assert not list(tmp_path.rglob("*.part"))
    assert all(
        content == MEMBERS[name]
        for name, content in files_of(tmp_path).items()
        if name.startswith("vimeo_septuplet/")
    )
    (tmp_path / "vimeo_septuplet.zip").unlink()
    server.content["/set/vimeo_septuplet.zip"] = good
    fetch_dataset("tiny", tmp_path)
    assert {k: v for k, v in files_of(tmp_path).items() if k != MARK} == MEMBERS


def test_an_archive_with_another_checksum_is_rejected(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(f"{server.url}/set/vimeo_septuplet.zip", sha256="0" * 64)
    monkeypatch.setitem(DATASETS, "tiny", replace(DATASETS["tiny"], files=(file,)))
    with pytest.raises(FetchError, match="checksum mismatch"):
        fetch_dataset("tiny", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("free", "keep", "enough"),
    [
        (259, False, False),
        (260, False, True),
        (359, True, False),
        (360, True, True),
    ],
)
def test_space_is_checked_before_the_download(
    free: int,
    keep: bool,
    enough: bool,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = tuple(File(f"{server.url}/{n}.zip", size=n) for n in (100, 80))
    monkeypatch.setitem(DATASETS, "tiny", replace(DATASETS["tiny"], files=large))
    usage = type(shutil.disk_usage(tmp_path))(1000, 1000 - free, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    wanted: type[SharpreelError] = FetchError if enough else DiskFullError
    with pytest.raises(wanted, match="404" if enough else r"GB are free\. Free some space"):
        fetch_dataset("tiny", tmp_path, keep_archives=keep)
    assert bool(server.asked) == enough


def test_space_for_missing_members_is_checked_before_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"one": b"x" * 60, "two": b"y" * 60}))
    (tmp_path / "one").write_bytes(b"x" * 60)
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 41, 59))
    with pytest.raises(DiskFullError, match=r"a\.zip needs"):
        unpack(tmp_path / "a.zip", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 40, 60))
    unpack(tmp_path / "a.zip", tmp_path)
    assert (tmp_path / "two").read_bytes() == b"y" * 60


def test_offline_the_message_states_what_to_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARPREEL_OFFLINE", "1")
    with pytest.raises(FetchError, match=f"Download it once from {server.url}"):
        fetch_dataset("tiny", tmp_path)
    (tmp_path / "vimeo_septuplet.zip").write_bytes(server.content["/set/vimeo_septuplet.zip"])
    assert fetch_dataset("tiny", tmp_path).is_dir()
    assert server.asked == []


def test_a_data_set_without_a_url_states_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be downloaded automatically.*See https://"):
        fetch_dataset("inter4k", tmp_path)
    with pytest.raises(UsageError, match="choose one of vimeo90k, vimeo90k-test, reds"):
        fetch_dataset("imagenet", tmp_path)


def test_an_unwritable_folder_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        fetch_dataset("tiny", tmp_path / "file" / "in")


@pytest.mark.parametrize("row", DATASETS.values(), ids=DATASETS.keys())
def test_each_row_has_title_licence_and_source(row: Dataset) -> None:
    assert DATASETS[row.name] is row
    assert row.title
    assert row.licence
    assert re.match(r"https?://", row.page)
    assert row.parts
    assert row.files or row.note
    if row.files:
        assert sum(file.size for file in row.files) == pytest.approx(row.size_gb * 1e9, rel=0.02)
    assert all(re.fullmatch(r"https?://\S+\.zip", file.url) for file in row.files)
    assert all(re.fullmatch(r"([0-9a-f]{64})?", file.sha256) for file in row.files)
    assert len({file.name for file in row.files}) == len(row.files)
