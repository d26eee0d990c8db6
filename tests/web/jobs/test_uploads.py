"""Uploads: names, chunks, limits, inspection, and resuming after a broken connection."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from sharpreel.web.jobs import uploads
from tests.support.site_app import (
    assert_rejected,
    begin_upload,
    limited_client,
    send_chunk,
    site_of,
    upload_file,
)
from tests.support.site_process import API, Client, RunningSite, wait_until
from tests.support.videos import make_clip


@pytest.mark.parametrize(
    ("name", "label", "suffix"),
    [
        ("../../etc/passwd", "passwd", ""),
        ("..\\..\\boot.ini", "boot.ini", ""),
        ("/abs/video.mp4", "video.mp4", ".mp4"),
        ("..", "video", ""),
        ("a\x00b\r\n.mkv", "ab.mkv", ".mkv"),
        ("\u202egpj.4pm.mp4", "gpj.4pm.mp4", ".mp4"),
        ("  video.MP4  ", "video.MP4", ".mp4"),
        ("Lïvé 映画 🎬.webm", "Lïvé 映画 🎬.webm", ".webm"),
        ("list.m3u8", "list.m3u8", ""),
        ("video.mp4/..", "video", ""),
    ],
)
def test_a_file_name_becomes_a_label(name: str, label: str, suffix: str) -> None:
    assert (uploads.clean_name(name), uploads.suffix_of(uploads.clean_name(name))) == (
        label,
        suffix,
    )


def test_a_long_name_keeps_its_suffix_and_is_not_used_as_a_path(
    app: Flask, program: FlaskClient, tmp_path: Path
) -> None:
    begun = begin_upload(program, name="../" * 20 + "n" * 4000 + ".mp4").json
    assert begun is not None
    assert (len(begun["name"]), begun["name"][-4:]) == (uploads.MAX_NAME_LENGTH, ".mp4")
    folder = site_of(app).settings.uploads
    assert (folder / f"{begun['id']}.mp4").is_file()
    assert_rejected(begin_upload(program, name="n" * 5000), 422, "invalid")
    assert_rejected(begin_upload(program, name=""), 422, "invalid")


def test_the_sizes_of_uploads_and_chunks_are_limited(tmp_path: Path) -> None:
    client = limited_client(tmp_path, upload_bytes=1000, chunk_bytes=10)
    assert begin_upload(client, 1000).status_code == 201
    begun = begin_upload(client, 999).json
    assert_rejected(begin_upload(client, 1001), 413, "too_large")
    assert_rejected(begin_upload(client, 0), 422, "invalid")
    assert begun is not None
    assert_rejected(send_chunk(client, begun["id"], b"x" * 41), 413, "chunk_too_large")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"upload_seconds": 0.5}, "too_long"),
        ({"frame_pixels": 64 * 48 - 1}, "too_many_pixels"),
        ({"sniff_bytes": 1 << 20}, "not_a_video"),
    ],
)
def test_the_length_and_frame_size_of_a_video_are_limited(
    tmp_path: Path, clip: Path, limits: dict[str, Any], code: str
) -> None:
    client = limited_client(tmp_path / "data", **limits)
    assert_rejected(upload_file(client, clip), 422, code)
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_a_video_that_is_too_long_is_refused_after_its_first_chunk(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=100)
    client = limited_client(tmp_path / "data", upload_seconds=3.0)
    data = clip.read_bytes()
    begun = begin_upload(client, len(data), "a.mkv").json
    assert begun is not None
    assert_rejected(send_chunk(client, begun["id"], data[: len(data) // 2]), 422, "too_long")
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_an_upload_resumes_where_the_connection_broke(client: Client, clip: Path) -> None:
    data = clip.read_bytes()
    begun = client.call("POST", "/uploads", {"name": "a.mp4", "size": len(data)})
    path = f"{API}/uploads/{begun['id']}"
    with socket.create_connection(("127.0.0.1", client.port)) as line:
        head = f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nUpload-Offset: 0\r\n"
        line.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:7000])
    offset = wait_until(lambda: client.call("GET", f"/uploads/{begun['id']}")["offset"])
    assert offset == 7000  # when the server has noticed
    wrong = client.api("PATCH", f"/uploads/{begun['id']}", data[:5000], Upload_Offset="5000")
    assert (wrong.status, wrong.code) == (409, "wrong_offset")
    assert wrong.json["error"]["offset"] == int(wrong.headers["upload-offset"]) == 7000
    early = client.api("POST", f"/uploads/{begun['id']}/finish", {})
    assert (early.status, early.code) == (409, "incomplete")
    client.call("PATCH", f"/uploads/{begun['id']}", data[7000:], Upload_Offset="7000")
    wrong_sum = client.api("POST", f"/uploads/{begun['id']}/finish", {"sha256": "0" * 64})
    assert wrong_sum.code == "wrong_sha256"
    again = client.upload(clip)
    assert again["sha256"] == hashlib.sha256(data).hexdigest()
    assert client.api("DELETE", f"/uploads/{again['id']}").status == 204
    assert client.api("GET", f"/uploads/{again['id']}").code == "not_found"


def test_files_that_are_not_videos_are_refused_and_deleted(
    running: RunningSite, client: Client, tmp_path: Path
) -> None:
    for name, content in (
        ("text.mp4", b"not a video at all\n" * 100),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("page.html", b"<script>alert(1)</script>" * 50),
    ):
        (tmp_path / name).write_bytes(content)
        begun = client.call("POST", "/uploads", {"name": name, "size": len(content)})
        client.call("PATCH", f"/uploads/{begun['id']}", content, Upload_Offset="0")
        refused = client.api("POST", f"/uploads/{begun['id']}/finish", {})
        assert (refused.status, refused.code) == (422, "not_a_video")
        assert "passwd" not in refused.body.decode()
        again = client.api("POST", f"/uploads/{begun['id']}/finish", {})
        assert (again.status, again.code) == (422, "not_a_video")
        response = client.api("POST", "/jobs", {"upload": begun["id"]})
        assert (response.status, response.code) == (409, "not_ready")
