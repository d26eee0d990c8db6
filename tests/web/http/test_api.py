"""The REST API: validation of requests, results, plans, samples, event streams."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from sharpreel.media.verify import verify
from tests.support.site_app import (
    assert_rejected,
    begin_upload,
    limited_client,
    send_chunk,
)
from tests.support.site_process import API, Client
from tests.support.videos import video_pts


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fsecret",
        "%2e%2e%2fsecret",
        "..%5c..%5csecret",
        "%00",
        "a%00b",
        "x" * 5000,
        "%ff%fe",
        "%F0%9F%8E%AC",
        "'; DROP TABLE jobs; --",
    ],
)
def test_an_id_that_is_a_path_finds_nothing(program: FlaskClient, name: str) -> None:
    for path in (
        f"jobs/{name}",
        f"jobs/{name}/result",
        f"jobs/{name}/frame/after",
        f"jobs/{name}/play/before",
        f"jobs/{name}/samples/reel",
        f"uploads/{name}",
    ):
        assert program.get(f"{API}/{path}").status_code == 404
    assert program.delete(f"{API}/jobs/{name}").status_code == 404
    assert program.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"model": "/etc/passwd"}, "unknown_model"),
        ({"model": "../weights/reel_x2.safetensors"}, "unknown_model"),
        ({"model": "basicvsrpp-reds4"}, "unknown_model"),
        ({"model": "reel", "scale": 3}, "unknown_scale"),
        ({"scale": 10**9}, "invalid"),
        ({"height": -1}, "invalid"),
        ({"codec": "h264 -y"}, "invalid"),
        ({"preset": "--overwrite"}, "invalid"),
        ({"container": "../x"}, "invalid"),
        ({"output": "/etc/passwd"}, "invalid"),
        ({"model": ["reel"]}, "invalid"),
        ({"codec": "vp9", "container": "mp4", "preset": "nonsense"}, "impossible"),
        ({"height": 20}, "nothing_to_do"),
    ],
)
def test_options_that_cannot_be_met_are_rejected_at_once(
    program: FlaskClient, upload: str, options: Any, code: str
) -> None:
    response = program.post(f"{API}/jobs", json={"upload": upload, "options": options})
    message = assert_rejected(response, 422, code)
    assert "/uploads/" not in message
    assert "--" not in message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"name": 3, "size": "x"}', b'{"name": "a"}', b"\xff"]
)
def test_invalid_json_is_rejected(program: FlaskClient, body: bytes) -> None:
    response = program.post(f"{API}/uploads", data=body, content_type="application/json")
    assert_rejected(response, 422, "invalid")


def test_a_chunk_needs_its_offset_its_length_and_the_right_type(program: FlaskClient) -> None:
    begun = begin_upload(program, 100).json
    assert begun is not None
    assert_rejected(send_chunk(program, begun["id"], b"x" * 10, 5), 409, "wrong_offset")
    assert_rejected(send_chunk(program, begun["id"], b"x" * 101), 413, "too_large")
    for offset in ("-1", "x", "1e3", "9" * 30, ""):
        headers = {"Upload-Offset": offset}
        response = program.patch(f"{API}/uploads/{begun['id']}", data=b"x", headers=headers)
        assert_rejected(response, 400, "invalid")
    headers = {"Upload-Offset": "0", "Content-Type": "video/mp4"}
    response = program.patch(f"{API}/uploads/{begun['id']}", data=b"x", headers=headers)
    assert_rejected(response, 415, "wrong_type")
    headers = {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    endless = program.patch(f"{API}/uploads/{begun['id']}", data=b"x", headers=headers)
    assert_rejected(endless, 411, "length_required")


def test_the_number_of_event_streams_of_a_client_is_limited(tmp_path: Path) -> None:
    client = limited_client(tmp_path, streams_per_client=2)
    streams = [client.get(f"{API}/events", buffered=False) for _ in range(2)]
    assert_rejected(client.get(f"{API}/events"), 429, "too_many")
    streams[0].close()
    again = client.get(f"{API}/events", buffered=False)
    assert again.status_code == 200
    for one in (*streams[1:], again):
        one.close()


def test_an_upload_becomes_a_video_that_holds_everything_of_its_input(
    client: Client, clip: Path, finished: tuple[Any, Any], tmp_path: Path
) -> None:
    upload, job = finished
    assert upload["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert (upload["info"]["width"], upload["info"]["frames"]) == (64, 24)
    result = client.request("GET", job["urls"]["result"] + "?download=1")
    name = quote("Lïvé 映画_bicubic_x2.mp4")
    assert result.headers["content-disposition"].endswith(f"filename*=UTF-8''{name}")
    assert hashlib.sha256(result.body).hexdigest() == job["result"]["sha256"]
    assert len(result.body) == job["result"]["bytes"]
    video = tmp_path / "video.mp4"
    video.write_bytes(result.body)
    assert verify(clip, video) == []
    assert (job["result"]["width"], job["result"]["height"]) == (128, 96)
    assert (job["frames"], job["total"]) == (24, 24)


def test_a_plan_has_size_time_and_the_fate_of_each_stream(
    client: Client, finished: tuple[Any, Any]
) -> None:
    options = {"model": "bicubic", "height": 72, "codec": "hevc", "container": "mkv"}
    plan = client.call("POST", "/plans", {"upload": finished[0]["id"], "options": options})
    assert (plan["width"], plan["height"], plan["frames"]) == (96, 72, 24)
    assert (plan["codec"], plan["container"]) == ("hevc", "mkv")
    assert plan["eta_seconds"] > 0
    assert plan["bytes_estimate"] > 0
    assert [(s["kind"], s["fate"].split(":")[0]) for s in plan["streams"]] == [
        ("video", "upscale"),
        ("audio", "copy"),
    ]


def test_parts_of_a_result_can_be_requested_by_range(
    client: Client, finished: tuple[Any, Any]
) -> None:
    url, size = finished[1]["urls"]["result"], finished[1]["result"]["bytes"]
    whole = client.request("GET", url)
    assert (whole.status, whole.headers["accept-ranges"]) == (200, "bytes")
    assert whole.headers["content-type"] == "video/mp4"
    some = client.request("GET", url, headers={"Range": "bytes=100-199"})
    assert (some.status, some.body) == (206, whole.body[100:200])
    assert some.headers["content-range"] == f"bytes 100-199/{size}"
    end = client.request("GET", url, headers={"Range": f"bytes={size - 7}-"})
    assert (end.status, end.body) == (206, whole.body[-7:])
    beyond = client.request("GET", url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    same = client.request("GET", url, headers={"If-None-Match": whole.headers["etag"]})
    assert same.status == 304


def test_before_and_after_have_the_same_timestamps(
    client: Client, finished: tuple[Any, Any], tmp_path: Path
) -> None:
    for side in ("before", "after"):
        response = client.request("GET", finished[1]["urls"][side])
        assert response.headers["content-type"] == "video/mp4"
        (tmp_path / f"{side}.mp4").write_bytes(response.body)
    assert video_pts(tmp_path / "before.mp4") == video_pts(tmp_path / "after.mp4")


def test_a_sample_has_a_video_by_each_model(
    client: Client, finished: tuple[Any, Any], tmp_path: Path
) -> None:
    body = {
        "upload": finished[0]["id"],
        "models": ["reel-fast", "bicubic"],
        "start": 0.2,
        "seconds": 0.4,
    }
    job = client.wait_until_done(client.call("POST", "/samples", body))
    assert [one["model"] for one in job["results"]] == ["reel-fast", "bicubic"]
    times = []
    for one in job["results"]:
        path = tmp_path / f"{one['model']}.mp4"
        path.write_bytes(client.request("GET", one["url"]).body)
        times.append(video_pts(path))
    assert times[0] == times[1]
    assert len(times[0]) in (10, 11)  # 0.4 s of 25 frames a second
    assert client.api("GET", f"/jobs/{job['id']}/samples/..%2f..%2fsecret").code == "not_found"


def listen(client: Client, path: str, until: Any) -> list[tuple[str, Any]]:
    """(kind, data) of the events of a stream, up to one that meets a condition."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.request("GET", API + path)
    response = connection.getresponse()
    assert response.headers["Content-Type"].startswith("text/event-stream")
    seen: list[tuple[str, Any]] = []
    kind = ""
    for line in response:
        name, _, value = line.decode().strip().partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            seen.append((kind, json.loads(value)))
            if until(*seen[-1]):
                break
    response.close()
    connection.close()
    return seen


def test_events_follow_a_job_from_the_queue_to_its_end(
    client: Client, finished: tuple[Any, Any]
) -> None:
    job = client.job(finished[0])
    seen = listen(client, f"/jobs/{job['id']}/events", lambda kind, data: False)
    assert {kind for kind, _ in seen} == {"job"}
    states = list(dict.fromkeys(data["state"] for _, data in seen))
    assert states in (["queued", "running", "done"], ["running", "done"])
    # The feed polls: a short stage may be missed, but the order is fixed.
    stages = iter(["", "upscale", "verify", "player", ""])
    assert all(stage in stages for stage, _ in groupby(data["stage"] for _, data in seen))
    frames = [data["frames"] for _, data in seen]
    assert frames == sorted(frames)


def test_events_of_all_jobs_report_deleted_ones(client: Client, finished: tuple[Any, Any]) -> None:
    body = {"upload": finished[0]["id"], "models": ["bicubic"], "seconds": 0.2}
    connected = threading.Event()

    def gone(kind: str, data: Any) -> bool:
        connected.set()
        return kind == "gone"

    with ThreadPoolExecutor(1) as pool:
        events = pool.submit(listen, client, "/events", gone)
        assert connected.wait(60)
        job = client.call("POST", "/samples", body)
        client.wait_until_done(job)
        assert client.api("DELETE", f"/jobs/{job['id']}").status == 204
        seen = events.result()
    assert seen[-1] == ("gone", {"id": job["id"]})
    assert {finished[1]["id"], job["id"]} <= {data["id"] for _, data in seen}
    assert client.api("GET", f"/jobs/{job['id']}").code == "not_found"
