"""The site as a program meets it: real processes, real sockets, real films."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest

from sharpreel.media.verify import verify
from tests.support.site_process import API, PLENTY, Client, Running, site, still_there, wait_until
from tests.support.terminal import sharpreel
from tests.support.videos import make_clip, make_rich, packets, video_pts


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One site for all tests that leave it as it was."""
    with site(
        tmp_path_factory.mktemp("site") / "data", *PLENTY, "--limit", "chunk_bytes=20000",
        "--limit", "uploads_per_client=50", "--limit", "connections_per_client=24",
    ) as it:  # fmt: skip
        yield it


@pytest.fixture
def client(running: Running) -> Client:
    return running.client


@pytest.fixture(scope="module")
def finished(running: Running, clip: Path) -> tuple[Any, Any]:
    """An upload, and the job that was made of it."""
    upload = running.client.upload(clip, "Lïvé 映画.mp4")
    return upload, running.client.done(running.client.job(upload))


def fits(document: Any, name: str, value: Any) -> None:
    """Check a value against a schema of the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_an_upload_becomes_a_film_that_holds_all_its_input_held(
    client: Client, clip: Path, finished: tuple[Any, Any], tmp_path: Path
) -> None:
    upload, job = finished
    assert upload["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert (upload["info"]["width"], upload["info"]["frames"]) == (64, 24)
    result = client.ask("GET", job["urls"]["result"] + "?download=1")
    name = quote("Lïvé 映画_bicubic_x2.mp4")
    assert result.headers["content-disposition"].endswith(f"filename*=UTF-8''{name}")
    assert hashlib.sha256(result.body).hexdigest() == job["result"]["sha256"]
    assert len(result.body) == job["result"]["bytes"]
    film = tmp_path / "film.mp4"
    film.write_bytes(result.body)
    assert verify(clip, film) == []
    assert (job["result"]["width"], job["result"]["height"]) == (128, 96)
    assert (job["frames"], job["total"]) == (24, 24)


def test_a_plan_tells_size_time_and_the_fate_of_each_stream(
    client: Client, finished: tuple[Any, Any]
) -> None:
    options = {"model": "bicubic", "height": 72, "codec": "hevc", "container": "mkv"}
    plan = client.good("POST", "/plans", {"upload": finished[0]["id"], "options": options})
    assert (plan["width"], plan["height"], plan["frames"]) == (96, 72, 24)
    assert (plan["codec"], plan["container"]) == ("hevc", "mkv")
    assert plan["eta_seconds"] > 0
    assert plan["bytes_estimate"] > 0
    assert [(s["kind"], s["fate"].split(":")[0]) for s in plan["streams"]] == [
        ("video", "upscale"), ("audio", "copy"),
    ]  # fmt: skip


def test_parts_of_a_result_come_by_range(client: Client, finished: tuple[Any, Any]) -> None:
    url, size = finished[1]["urls"]["result"], finished[1]["result"]["bytes"]
    whole = client.ask("GET", url)
    assert (whole.status, whole.headers["accept-ranges"]) == (200, "bytes")
    assert whole.headers["content-type"] == "video/mp4"
    some = client.ask("GET", url, headers={"Range": "bytes=100-199"})
    assert (some.status, some.body) == (206, whole.body[100:200])
    assert some.headers["content-range"] == f"bytes 100-199/{size}"
    end = client.ask("GET", url, headers={"Range": f"bytes={size - 7}-"})
    assert (end.status, end.body) == (206, whole.body[-7:])
    beyond = client.ask("GET", url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    same = client.ask("GET", url, headers={"If-None-Match": whole.headers["etag"]})
    assert same.status == 304


def test_before_and_after_play_in_step(
    client: Client, finished: tuple[Any, Any], tmp_path: Path
) -> None:
    for side in ("before", "after"):
        answer = client.ask("GET", finished[1]["urls"][side])
        assert answer.headers["content-type"] == "video/mp4"
        (tmp_path / f"{side}.mp4").write_bytes(answer.body)
    assert video_pts(tmp_path / "before.mp4") == video_pts(tmp_path / "after.mp4")


@pytest.mark.slow
def test_what_browsers_cannot_play_is_made_playable_at_the_same_times(
    client: Client, tmp_path: Path
) -> None:
    rich = make_rich(tmp_path / "rich.mkv")
    upload = client.upload(rich)
    job = client.done(client.job(upload, codec="ffv1"))
    for side in ("before", "after"):
        answer = client.ask("GET", job["urls"][side])
        (tmp_path / f"{side}.mp4").write_bytes(answer.body)
    before, after = (tmp_path / f"{side}.mp4" for side in ("before", "after"))
    start = video_pts(rich)[0]
    assert [pts - start for pts in video_pts(rich)] == pytest.approx(video_pts(before), abs=0.002)
    assert video_pts(before) == pytest.approx(video_pts(after), abs=0.002)
    assert len(packets(before, "audio")) > 10
    result = tmp_path / job["result"]["name"]
    result.write_bytes(client.ask("GET", job["urls"]["result"]).body)
    assert result.name == "rich_bicubic_x2.mkv"
    assert sharpreel("verify", rich, result).returncode == 0


def test_a_sample_shows_some_seconds_by_each_network(
    client: Client, finished: tuple[Any, Any], tmp_path: Path
) -> None:
    asked = {
        "upload": finished[0]["id"],
        "models": ["reel-fast", "bicubic"],
        "start": 0.2,
        "seconds": 0.4,
    }
    job = client.done(client.good("POST", "/samples", asked))
    assert [one["model"] for one in job["results"]] == ["reel-fast", "bicubic"]
    times = []
    for one in job["results"]:
        path = tmp_path / f"{one['model']}.mp4"
        path.write_bytes(client.ask("GET", one["url"]).body)
        times.append(video_pts(path))
    assert times[0] == times[1]
    assert len(times[0]) in (10, 11)  # 0.4 s of 25 frames a second
    assert client.api("GET", f"/jobs/{job['id']}/samples/..%2f..%2fsecret").code == "not_found"


def listen(client: Client, path: str, until: Any) -> list[tuple[str, Any]]:
    """(kind, data) of the events of a stream, until this is true of one or the stream ends."""
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


def test_events_tell_a_job_from_the_queue_to_its_end(
    client: Client, finished: tuple[Any, Any]
) -> None:
    job = client.job(finished[0])
    seen = listen(client, f"/jobs/{job['id']}/events", lambda kind, data: False)
    assert {kind for kind, _ in seen} == {"job"}
    states = list(dict.fromkeys(data["state"] for _, data in seen))
    assert states in (["queued", "running", "done"], ["running", "done"])
    # The feed looks now and then: a short stage may pass unseen, none comes out of turn.
    turns = iter(["", "upscale", "verify", "player", ""])
    assert all(stage in turns for stage, _ in groupby(data["stage"] for _, data in seen))
    frames = [data["frames"] for _, data in seen]
    assert frames == sorted(frames)


def test_events_of_all_jobs_tell_of_those_that_go(
    client: Client, finished: tuple[Any, Any]
) -> None:
    asked = {"upload": finished[0]["id"], "models": ["bicubic"], "seconds": 0.2}
    begun = threading.Event()

    def gone(kind: str, data: Any) -> bool:
        begun.set()
        return kind == "gone"

    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(listen, client, "/events", gone)
        assert begun.wait(60)
        job = client.good("POST", "/samples", asked)
        client.done(job)
        assert client.api("DELETE", f"/jobs/{job['id']}").status == 204
        seen = heard.result()
    assert seen[-1] == ("gone", {"id": job["id"]})
    assert {finished[1]["id"], job["id"]} <= {data["id"] for _, data in seen}
    assert client.api("GET", f"/jobs/{job['id']}").code == "not_found"


def test_an_upload_goes_on_where_the_line_broke(client: Client, clip: Path) -> None:
    data = clip.read_bytes()
    made = client.good("POST", "/uploads", {"name": "a.mp4", "size": len(data)})
    place = f"{API}/uploads/{made['id']}"
    with socket.create_connection(("127.0.0.1", client.port)) as line:
        head = f"PATCH {place} HTTP/1.1\r\nHost: localhost\r\nUpload-Offset: 0\r\n"
        line.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:7000])
    offset = wait_until(lambda: client.good("GET", f"/uploads/{made['id']}")["offset"])
    assert offset == 7000  # when the server has noticed
    wrong = client.api("PATCH", f"/uploads/{made['id']}", data[:5000], Upload_Offset="5000")
    assert (wrong.status, wrong.code) == (409, "wrong_offset")
    assert wrong.json["error"]["offset"] == int(wrong.headers["upload-offset"]) == 7000
    early = client.api("POST", f"/uploads/{made['id']}/finish", {})
    assert (early.status, early.code) == (409, "incomplete")
    client.good("PATCH", f"/uploads/{made['id']}", data[7000:], Upload_Offset="7000")
    wrong_sum = client.api("POST", f"/uploads/{made['id']}/finish", {"sha256": "0" * 64})
    assert wrong_sum.code == "wrong_sha256"
    again = client.upload(clip)
    assert again["sha256"] == hashlib.sha256(data).hexdigest()
    assert client.api("DELETE", f"/uploads/{again['id']}").status == 204
    assert client.api("GET", f"/uploads/{again['id']}").code == "not_found"


def test_what_is_no_video_is_refused_and_not_kept(
    running: Running, client: Client, tmp_path: Path
) -> None:
    for name, content in (
        ("text.mp4", b"not a film at all\n" * 100),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("page.html", b"<script>alert(1)</script>" * 50),
    ):
        (tmp_path / name).write_bytes(content)
        made = client.good("POST", "/uploads", {"name": name, "size": len(content)})
        client.good("PATCH", f"/uploads/{made['id']}", content, Upload_Offset="0")
        refused = client.api("POST", f"/uploads/{made['id']}/finish", {})
        assert (refused.status, refused.code) == (422, "not_a_video")
        assert "passwd" not in refused.body.decode()
        again = client.api("POST", f"/uploads/{made['id']}/finish", {})
        assert (again.status, again.code) == (422, "not_a_video")
        answer = client.api("POST", "/jobs", {"upload": made["id"]})
        assert (answer.status, answer.code) == (409, "not_ready")


def test_slow_clients_do_not_hold_up_others(client: Client) -> None:
    lines = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(40)]
    try:
        for line in lines:
            line.sendall(b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        # Of this client no more connections are taken, so another address asks.
        other = http.client.HTTPConnection(
            "127.0.0.1", client.port, timeout=20, source_address=("127.0.0.2", 0)
        )
        other.request("GET", "/healthz")
        assert other.getresponse().status == 200
        other.close()
        closed = 0
        for line in lines:
            line.settimeout(0.05)
            try:
                closed += line.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionResetError:
                closed += 1
        assert closed >= 16  # 24 may be open at a time
    finally:
        for line in lines:
            line.close()


def from_address(number: int, port: int) -> socket.socket:
    """A connection from 127.0.0.NUMBER, which is a client of its own."""
    return socket.create_connection(
        ("127.0.0.1", port), timeout=20, source_address=(f"127.0.0.{number}", 0)
    )


def health_for(number: int, port: int) -> bytes:
    with from_address(number, port) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return line.recv(12)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        ("GET /|X-Slow: ", "x"),
        ("POST /login|Content-Length: 9999||", "x"),
        ("PATCH /api/v1/uploads/0|Content-Length: 99999||", "x"),
        ("POST /login|Transfer-Encoding: chunked||", "1|x|"),
    ],
    ids=["head", "body", "piece", "chunks"],
)  # fmt: skip
def test_strangers_who_are_slow_leave_threads_to_others(
    tmp_path: Path, begin: str, more: str
) -> None:
    begin = begin.replace("|", " HTTP/1.1|Host: localhost|", 1)
    limits = ("--limit", "request_seconds=4", "--threads", "20", "--token", "a token of a site")
    with site(tmp_path / "data", *PLENTY, *limits) as it:
        port = it.client.port
        lines = [from_address(number, port) for number in (2, 3) for _ in range(30)]
        try:
            for line in lines:
                line.sendall(begin.replace("|", "\r\n").encode())
            for _ in range(8):
                assert health_for(4, port) == b"HTTP/1.1 200"
                for line in lines:
                    with suppress(OSError):
                        line.sendall(more.replace("|", "\r\n").encode())
                time.sleep(0.7)
            for line in lines:  # the time was up for them
                with suppress(ConnectionResetError):
                    while line.recv(4096):
                        pass
        finally:
            for line in lines:
                line.close()


def test_a_request_may_come_byte_by_byte_and_wait_to_be_told_to_go_on(client: Client) -> None:
    body = b'{"name": "a.mp4", "size": 5}'
    head = (
        b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        for _ in range(2):  # the connection is kept
            for byte in head:
                line.sendall(bytes([byte]))
            assert line.recv(12) == b"HTTP/1.1 100"
            line.sendall(body)
            said = b""
            while b"sha256" not in said or not said.endswith(b"}\n"):
                said += (piece := line.recv(4096))
                assert piece, said
            assert b"HTTP/1.1 201" in said


def test_the_document_tells_of_every_route_and_of_every_answer(
    client: Client, finished: tuple[Any, Any]
) -> None:
    document = client.good("GET", "/openapi.json")
    upload, job = finished
    fits(document, "Upload", client.good("GET", f"/uploads/{upload['id']}"))
    fits(document, "Job", client.good("GET", f"/jobs/{job['id']}"))
    fits(document, "Models", client.good("GET", "/models"))
    fits(document, "Jobs", client.good("GET", "/jobs"))
    fits(document, "Error", client.api("GET", "/jobs/nothing").json)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            concrete = path.replace("{upload_id}", "0" * 32).replace("{job_id}", "0" * 32)
            concrete = concrete.replace("{side}", "after").replace("{model}", "reel")
            if concrete in ("/events", "/openapi.json") or (method == "get" and "{" not in path):
                continue
            answer = client.api(method.upper(), concrete)
            assert answer.status in (400, 404, 409, 411, 415), (method, path, answer.body)
            fits(document, "Error", answer.json)
            assert operation["summary"]


def test_health_and_metrics_tell_how_things_stand(
    client: Client, finished: tuple[Any, Any]
) -> None:
    assert client.ask("GET", "/healthz").json == {"status": "ok"}
    text = client.ask("GET", "/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(
        line.rsplit(" ", 1) for line in text.body.decode().splitlines() if not line.startswith("#")
    )
    assert int(lines['sharpreel_jobs{kind="upscale",state="done"}']) >= 1
    route = 'method="POST",route="/api/v1/uploads",status="201"'
    assert int(lines[f"sharpreel_http_requests_total{{{route}}}"]) >= 1
    assert float(lines["sharpreel_disk_used_bytes"]) > finished[0]["size"]


def test_every_line_of_the_log_is_an_object_with_ids(
    running: Running, finished: tuple[Any, Any]
) -> None:
    answer = running.client.ask("GET", "/healthz", headers={"X-Request-ID": "my-own.id"})
    assert answer.headers["x-request-id"] == "my-own.id"

    def told(name: str, value: str) -> bool:
        return any(json.loads(line).get(name) == value for line in list(running.log))

    wait_until(lambda: told("request_id", "my-own.id"))
    wait_until(lambda: told("job_id", finished[1]["id"]))


def test_a_site_ends_cleanly_and_only_one_runs_on_a_folder(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "data"
    with site(folder, *PLENTY) as it:
        second = sharpreel("serve", "--port", "0", "--data-dir", folder)
        assert second.returncode == 6
        assert "another site runs on this folder" in second.stderr
        taken = sharpreel("serve", "--port", it.client.port, "--data-dir", tmp_path / "other",
                          "--limit", "bytes=5")  # fmt: skip
        assert taken.returncode == 2
        assert "no such limit. Did you mean" in taken.stderr
        # Somebody who listens does not keep it from ending.
        listener = http.client.HTTPConnection("127.0.0.1", it.client.port, timeout=60)
        listener.request("GET", f"{API}/events")
        answer = listener.getresponse()
        assert it.stop() == 0
        answer.read()
        listener.close()
    assert (folder.stat().st_mode & 0o777, (folder / "secret").stat().st_mode & 0o777) == (
        0o700, 0o600,
    )  # fmt: skip
    shutil.rmtree(folder)


def test_a_killed_server_is_started_again_behind_the_same_socket(
    tmp_path: Path, clip: Path
) -> None:
    with site(tmp_path / "data", *PLENTY, "--limit", "request_seconds=2") as it:
        upload = it.client.upload(clip)
        before = it.parts("sharpreel.web.server")
        for one in before:
            one.kill()
        assert not still_there(before)
        assert it.client.good("GET", f"/uploads/{upload['id']}")["state"] == "ready"
        assert not set(it.parts("sharpreel.web.server")) & set(before)
        # And here is who says nothing for too long.
        with socket.create_connection(("127.0.0.1", it.client.port), timeout=60) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
            while line.recv(1000):
                pass
        assert not any("Traceback" in said for said in it.log)


def test_a_server_for_one_person_serves_where_gunicorn_does_not_run(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from sharpreel.web.supervisor import serve
from sharpreel.web.settings import Settings
settings = Settings(data_dir=Path({str(tmp_path / "data")!r}), port=0, server="werkzeug")
serve(settings, lambda address: print("listens at", address, flush=True))
"""
    with site(tmp_path, command=[sys.executable, "-c", program]) as it:
        assert it.client.good("GET", "/models")
        assert it.stop() == 0


@pytest.mark.slow
def test_ten_clients_at_once_each_get_their_own_film(tmp_path: Path) -> None:
    clips = [
        make_clip(tmp_path / f"{n}.mp4", size=(32 + 2 * n, 32), frames=6 + n) for n in range(10)
    ]
    many = ("--limit", "uploads_per_client=10")
    with site(tmp_path / "data", *PLENTY, *many, "--workers", "2") as it:

        def one(clip: Path) -> list[str]:
            job = it.client.done(it.client.job(it.client.upload(clip)))
            film = clip.with_name(f"made-{clip.name}")
            film.write_bytes(it.client.ask("GET", job["urls"]["result"]).body)
            return verify(clip, film)

        with ThreadPoolExecutor(10) as pool:
            assert list(pool.map(one, clips)) == [[]] * 10
