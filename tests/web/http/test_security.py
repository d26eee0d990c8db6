"""What a hostile page, client or file gets from a site: refusals, in one shape, and no more."""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sharpreel.errors import UsageError
from sharpreel.web import create_app
from sharpreel.web.context import KEY
from sharpreel.web.http.rate_limits import ConcurrencyLimit, RateLimit, client_of
from sharpreel.web.jobs import service, uploads
from sharpreel.web.logs import JsonFormatter
from sharpreel.web.sandbox import process as process_module
from sharpreel.web.settings import Limits, Settings, limits_of
from tests.support.site_process import API, site, wait_until
from tests.support.videos import REPO, make_clip

LIMITS = Limits(requests_per_second=1000, burst=1000)
TOKEN = "a long enough token"
OURS = {"Origin": "http://localhost"}
EVIL = {"Origin": "http://evil.example"}


MADE: list[Flask] = []


def app_for(folder: Path, **values: Any) -> Flask:
    values.setdefault("limits", LIMITS)
    MADE.append(create_app(Settings(data_dir=folder, **values)))
    return MADE[-1]


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    """Nothing stays open after these tests."""
    yield
    for app in MADE:
        app.extensions[KEY].close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return app_for(tmp_path_factory.mktemp("open"))


@pytest.fixture
def program(app: Flask) -> FlaskClient:
    """Something that is no browser: without cookies."""
    return app.test_client(use_cookies=False)


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    limits = replace(LIMITS, logins_per_minute=5)
    return app_for(tmp_path_factory.mktemp("guarded"), token=TOKEN, limits=limits)


def refused(answer: TestResponse, status: int, code: str) -> str:
    """Check a refusal and its shape; its message."""
    assert answer.status_code == status, answer.data
    error = answer.json["error"]  # type: ignore[index]
    assert error["code"] == code, error
    assert error["request_id"] == answer.headers["X-Request-ID"]
    assert "Traceback" not in answer.text
    return str(error["message"])


def page_token(browser: FlaskClient) -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', browser.get("/").text)
    assert found
    return found[1]


def announce(
    client: FlaskClient, size: int = 100, name: str = "a.mp4", **more: Any
) -> TestResponse:
    return client.post(f"{API}/uploads", json={"name": name, "size": size}, **more)


def put(
    client: FlaskClient, upload: str, data: bytes, offset: int = 0, **more: Any
) -> TestResponse:
    headers = {"Upload-Offset": str(offset), **more}
    return client.patch(f"{API}/uploads/{upload}", data=data, headers=headers)


def send(client: FlaskClient, path: Path, **more: Any) -> TestResponse:
    """A whole upload up to its finish, whose answer this is, or the first refusal."""
    data = path.read_bytes()
    made = announce(client, len(data), path.name, **more)
    if made.status_code != 201:
        return made
    upload = made.json["id"]  # type: ignore[index]
    sent = put(client, upload, data)
    return sent if sent.status_code != 200 else client.post(f"{API}/uploads/{upload}/finish")


# Hosts, origins, forged requests ---------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_foreign_name_for_this_machine_reads_nothing(program: FlaskClient, host: str) -> None:
    for path in (f"{API}/jobs", "/", "/metrics", "/healthz"):
        answer = program.get(path, headers={"Host": host, "Accept": "application/json"})
        refused(answer, 421, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_names_of_this_machine_are_taken(program: FlaskClient, host: str) -> None:
    assert program.get(f"{API}/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [EVIL, {"Origin": "null"}, {"Origin": "https://localhost"}, {"Origin": "http://localhost:81"},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_a_page_of_another_site_changes_nothing(
    program: FlaskClient, headers: dict[str, str]
) -> None:
    refused(announce(program, headers=headers), 403, "wrong_origin")
    refused(program.patch(f"{API}/uploads/0", headers=headers), 403, "wrong_origin")
    refused(program.delete(f"{API}/jobs/0", headers=headers), 403, "wrong_origin")
    refused(program.get(f"{API}/events", headers=headers), 403, "wrong_origin")


def test_a_link_from_elsewhere_may_be_followed(program: FlaskClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert program.get(f"{API}/models", headers=headers).status_code == 200
    assert program.get("/", headers=headers).status_code == 200


def test_a_browser_must_send_the_token_of_its_own_page(app: Flask, browser: FlaskClient) -> None:
    token = page_token(browser)
    refused(announce(browser, headers=OURS), 403, "forged")
    refused(announce(browser), 403, "forged")  # the cookie tells a browser, too
    refused(announce(browser, headers={**OURS, "X-CSRF-Token": "guess"}), 403, "forged")
    other = page_token(app.test_client())
    refused(announce(browser, headers={**OURS, "X-CSRF-Token": other}), 403, "forged")
    assert announce(browser, headers={**OURS, "X-CSRF-Token": token}).status_code == 201


def test_the_cookie_is_not_for_scripts_and_not_for_other_sites(
    app: Flask, browser: FlaskClient
) -> None:
    cookie = browser.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    secure = app.test_client().get("/", base_url="https://localhost").headers["Set-Cookie"]
    assert "Secure" in secure


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
def test_what_a_form_can_send_is_not_taken(program: FlaskClient, kind: str) -> None:
    body = b'{"name": "a.mp4", "size": 100}'
    answer = program.post(f"{API}/uploads", data=body, content_type=kind)
    refused(answer, 415, "wrong_type")
    refused(program.post(f"{API}/jobs/0/cancel", data=b"", content_type=kind), 415, "wrong_type")


def test_every_answer_carries_the_headers_that_bind_a_browser(browser: FlaskClient) -> None:
    for path in ("/", "/nothing", f"{API}/jobs", f"{API}/nothing", "/static/style.css"):
        answer = browser.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        answer.close()


def test_a_live_socket_opens_from_a_page_of_ours_alone(program: FlaskClient) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    }
    for more in (EVIL, {}, {"Origin": "null"}):
        answer = program.get("/live/socket", headers={**upgrade, **more})
        assert answer.status_code == 403
        assert answer.json["error"]["code"] == "wrong_origin"  # type: ignore[index]


# The token -------------------------------------------------------------------------------------


def test_without_the_token_nothing_is_told(guarded: Flask) -> None:
    client = guarded.test_client(use_cookies=False)
    for path in (f"{API}/jobs", f"{API}/openapi.json", f"{API}/events", f"{API}/nothing"):
        answer = client.get(path)
        refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    refused(announce(client), 401, "unauthorized")
    page = client.get("/jobs?x=1")
    assert (page.status_code, page.headers["Location"]) == (302, "/login?next=%2Fjobs%3Fx%3D1")
    assert client.get("/metrics").status_code == 302
    assert client.get("/healthz").status_code == 200
    with client.get("/static/style.css") as style:
        assert style.status_code == 200


def test_the_token_opens_the_interface_to_programs(guarded: Flask) -> None:
    client = guarded.test_client(use_cookies=False)
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get(f"{API}/jobs", headers=right).status_code == 200
    assert announce(client, headers=right).status_code == 201
    refused(announce(client, headers={**right, **EVIL}), 403, "wrong_origin")
    answers = [
        client.get(f"{API}/jobs", headers={"Authorization": "Bearer guess"}) for _ in range(8)
    ]
    assert [one.status_code for one in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_after_too_many_wrong_tokens_the_right_one_is_not_looked_at(tmp_path: Path) -> None:
    limits = replace(LIMITS, logins_per_minute=3)
    app = app_for(tmp_path, token=TOKEN, limits=limits)
    inside, guesser, program = (app.test_client(use_cookies=n < 2) for n in range(3))
    log_in(inside)
    for _ in range(3):
        wrong = {"Authorization": "Bearer guess"}
        refused(program.get(f"{API}/jobs", headers=wrong), 401, "unauthorized")
    right = {"Authorization": f"Bearer {TOKEN}"}
    refused(program.get(f"{API}/jobs", headers=right), 429, "too_many")
    assert log_in(guesser).status_code == 429
    assert guesser.get(f"{API}/jobs").status_code == 401
    assert inside.get(f"{API}/jobs").status_code == 200
    elsewhere = {"REMOTE_ADDR": "10.0.0.9"}
    assert program.get(f"{API}/jobs", headers=right, environ_base=elsewhere).status_code == 200


def log_in(browser: FlaskClient) -> TestResponse:
    form = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/login").text)
    assert form
    return browser.post("/login", data={"csrf_token": form[1], "token": TOKEN})


def test_a_browser_logs_in_once_and_only_to_pages_of_this_site(tmp_path: Path) -> None:
    app = app_for(tmp_path, token=TOKEN)
    browser = app.test_client()
    form = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/login").text)
    assert form
    wrong = {"csrf_token": form[1], "token": "guess", "next": "/jobs"}
    assert browser.post("/login", data=wrong).status_code == 401
    assert browser.get(f"{API}/jobs").status_code == 401
    forged = {"csrf_token": "x", "token": TOKEN}
    assert browser.post("/login", data=forged).status_code == 403
    right = {"csrf_token": form[1], "token": TOKEN, "next": "/jobs"}
    answer = browser.post("/login", data=right)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/jobs")
    assert browser.get(f"{API}/jobs").status_code == 200
    for target in ("//evil.example", "/\\evil.example", "https://evil.example", "/a\nb", "x"):
        away = browser.get("/login", query_string={"next": target})
        assert away.headers["Location"] == "/"
    # Another token makes the cookie void.
    again = app_for(tmp_path, token="another token").test_client()
    cookie = browser.get_cookie("sharpreel")
    assert cookie is not None
    again.set_cookie("sharpreel", cookie.value)
    assert again.get(f"{API}/jobs").status_code == 401


def test_a_site_that_others_can_reach_has_a_token_in_any_case(tmp_path: Path) -> None:
    for values in ({"host": "0.0.0.0"}, {"public_hosts": ("film.example",)}, {"proxies": 1}):
        with pytest.raises(UsageError, match="needs a token"):
            app_for(tmp_path, **values)
    with site(tmp_path / "data", "--host", "0.0.0.0") as it:
        assert it.client.api("GET", "/jobs").code == "unauthorized"
        (line,) = wait_until(lambda: [line for line in list(it.log) if "Token" in line])
        made = line.split()[-1]
        assert it.client.api("GET", "/jobs", Authorization=f"Bearer {made}").json == []
        assert not any(made in one.cmdline() for one in it.parts("-m"))


def test_behind_a_proxy_the_client_is_whom_the_proxy_names(tmp_path: Path) -> None:
    app = app_for(tmp_path, token=TOKEN, proxies=1, public_hosts=("film.example",),
                  limits=replace(LIMITS, uploads_per_client=1))  # fmt: skip
    client = app.test_client(use_cookies=False)
    right = {"Authorization": f"Bearer {TOKEN}"}

    def of(address: str) -> int:
        headers = {**right, "X-Forwarded-For": address, "X-Forwarded-Host": "film.example"}
        return announce(client, headers=headers).status_code

    assert [of("1.1.1.1"), of("1.1.1.1"), of("9.9.9.9, 2.2.2.2"), of("8.8.8.8, 2.2.2.2")] == [
        201, 429, 201, 429,
    ]  # fmt: skip
    wrong = {**right, "X-Forwarded-For": "1.1.1.1", "X-Forwarded-Host": "evil.example"}
    refused(client.get(f"{API}/jobs", headers=wrong), 421, "wrong_host")


# Names and paths -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label", "suffix"),
    [
        ("../../etc/passwd", "passwd", ""),
        ("..\\..\\boot.ini", "boot.ini", ""),
        ("/abs/film.mp4", "film.mp4", ".mp4"),
        ("..", "video", ""),
        ("a\x00b\r\n.mkv", "ab.mkv", ".mkv"),
        ("\u202egpj.4pm.mp4", "gpj.4pm.mp4", ".mp4"),
        ("  film.MP4  ", "film.MP4", ".mp4"),
        ("Lïvé 映画 🎬.webm", "Lïvé 映画 🎬.webm", ".webm"),
        ("list.m3u8", "list.m3u8", ""),
        ("film.mp4/..", "video", ""),
    ],
)
def test_a_name_is_a_label(name: str, label: str, suffix: str) -> None:
    assert (uploads.label_of(name), uploads.suffix_of(uploads.label_of(name))) == (label, suffix)


def test_a_long_name_keeps_its_suffix_and_touches_no_path(
    app: Flask, program: FlaskClient, tmp_path: Path
) -> None:
    made = announce(program, name="../" * 20 + "n" * 4000 + ".mp4").json
    assert made is not None
    assert (len(made["name"]), made["name"][-4:]) == (uploads.LABEL_LENGTH, ".mp4")
    folder = app.extensions[KEY].settings.uploads
    assert (folder / f"{made['id']}.mp4").is_file()
    refused(announce(program, name="n" * 5000), 422, "invalid")
    refused(announce(program, name=""), 422, "invalid")


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fsecret", "%2e%2e%2fsecret", "..%5c..%5csecret", "%00", "a%00b", "x" * 5000,
     "%ff%fe", "%F0%9F%8E%AC", "'; DROP TABLE jobs; --"],
)  # fmt: skip
def test_an_id_that_is_a_path_finds_nothing(program: FlaskClient, name: str) -> None:
    for path in (f"jobs/{name}", f"jobs/{name}/result", f"jobs/{name}/frame/after",
                 f"jobs/{name}/play/before", f"jobs/{name}/samples/reel",
                 f"uploads/{name}"):  # fmt: skip
        assert program.get(f"{API}/{path}").status_code == 404
    assert program.delete(f"{API}/jobs/{name}").status_code == 404
    assert program.get(f"/static/{name}").status_code == 404


# What is asked for -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upload(app: Flask, clip: Path) -> str:
    """An upload that is ready."""
    answer = send(app.test_client(use_cookies=False), clip)
    assert answer.json is not None
    return str(answer.json["id"])


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
def test_what_cannot_be_made_is_refused_at_once(
    program: FlaskClient, upload: str, options: Any, code: str
) -> None:
    answer = program.post(f"{API}/jobs", json={"upload": upload, "options": options})
    message = refused(answer, 422, code)
    assert "/uploads/" not in message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"name": 3, "size": "x"}', b'{"name": "a"}', b"\xff"]
)
def test_json_that_is_not_what_it_must_be_is_refused(program: FlaskClient, body: bytes) -> None:
    answer = program.post(f"{API}/uploads", data=body, content_type="application/json")
    refused(answer, 422, "invalid")


def test_bytes_come_in_order_with_their_length_and_no_other_type(program: FlaskClient) -> None:
    made = announce(program, 100).json
    assert made is not None
    refused(put(program, made["id"], b"x" * 10, 5), 409, "wrong_offset")
    refused(put(program, made["id"], b"x" * 101), 413, "too_large")
    for offset in ("-1", "x", "1e3", "9" * 30, ""):
        headers = {"Upload-Offset": offset}
        answer = program.patch(f"{API}/uploads/{made['id']}", data=b"x", headers=headers)
        refused(answer, 400, "invalid")
    headers = {"Upload-Offset": "0", "Content-Type": "video/mp4"}
    answer = program.patch(f"{API}/uploads/{made['id']}", data=b"x", headers=headers)
    refused(answer, 415, "wrong_type")
    headers = {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    endless = program.patch(f"{API}/uploads/{made['id']}", data=b"x", headers=headers)
    refused(endless, 411, "length_required")


def test_what_only_we_can_break_tells_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_for(tmp_path)
    monkeypatch.setattr(service, "networks", lambda: 1 / 0)
    message = refused(app.test_client().get(f"{API}/models"), 500, "internal")
    assert "ZeroDivision" not in message
    assert not app.debug


def test_a_person_gets_a_page_and_a_program_an_object(
    browser: FlaskClient, program: FlaskClient
) -> None:
    page = browser.get("/nothing", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    refused(browser.get("/nothing", headers={"Accept": "*/*"}), 404, "not_found")
    refused(program.put(f"{API}/jobs"), 405, "method_not_allowed")


# Limits ----------------------------------------------------------------------------------------


def limited(folder: Path, **values: Any) -> FlaskClient:
    return app_for(folder, limits=replace(LIMITS, **values)).test_client(use_cookies=False)


def test_an_upload_may_have_so_many_bytes_and_a_piece_too(tmp_path: Path) -> None:
    client = limited(tmp_path, upload_bytes=1000, chunk_bytes=10)
    assert announce(client, 1000).status_code == 201
    made = announce(client, 999).json
    refused(announce(client, 1001), 413, "too_large")
    refused(announce(client, 0), 422, "invalid")
    assert made is not None
    refused(put(client, made["id"], b"x" * 41), 413, "chunk_too_large")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"upload_seconds": 0.5}, "too_long"),
        ({"frame_pixels": 64 * 48 - 1}, "too_many_pixels"),
        ({"sniff_bytes": 1 << 20}, "not_a_video"),
    ],
)
def test_a_video_may_be_so_long_and_so_large(
    tmp_path: Path, clip: Path, limits: dict[str, Any], code: str
) -> None:
    client = limited(tmp_path / "data", **limits)
    refused(send(client, clip), 422, code)
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_a_video_is_refused_by_its_first_piece(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=100)
    client = limited(tmp_path / "data", upload_seconds=3.0)
    data = clip.read_bytes()
    made = announce(client, len(data), "a.mkv").json
    assert made is not None
    refused(put(client, made["id"], data[: len(data) // 2]), 422, "too_long")
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_a_small_file_does_not_unpack_to_an_endless_result(tmp_path: Path, clip: Path) -> None:
    client = limited(tmp_path, result_pixels=24 * 128 * 96)
    upload = send(client, clip).json
    assert upload is not None
    for options in ({"scale": 4}, {"height": 1080}):
        asked = {"upload": upload["id"], "options": options}
        for path in ("plans", "jobs"):
            refused(client.post(f"{API}/{path}", json=asked), 422, "too_many_pixels")


def test_a_client_begins_so_many_uploads_and_jobs(tmp_path: Path, clip: Path) -> None:
    client = limited(tmp_path, uploads_per_client=2, jobs_per_client=1)
    upload = send(client, clip).json
    assert upload is not None
    assert [announce(client).status_code for _ in range(3)] == [201, 201, 429]
    asked = {"upload": upload["id"], "models": ["bicubic"]}
    first = client.post(f"{API}/samples", json=asked)
    assert first.status_code == 202
    refused(client.post(f"{API}/samples", json=asked), 429, "too_many")
    assert first.json is not None
    assert client.post(f"{API}/jobs/{first.json['id']}/cancel").json["state"] == "cancelled"  # type: ignore[index]
    assert client.post(f"{API}/samples", json=asked).status_code == 202
    other = client.post(f"{API}/samples", json=asked, environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert other.status_code == 202


def test_the_disk_keeps_room(tmp_path: Path) -> None:
    refused(announce(limited(tmp_path / "a", spare_bytes=1 << 60)), 507, "disk_full")
    client = limited(tmp_path / "b", disk_bytes=250)
    assert announce(client, 200).status_code == 201
    refused(announce(client, 100), 507, "disk_full")
    assert announce(client, 50).status_code == 201


def test_what_failed_jobs_had_made_gives_way(tmp_path: Path, clip: Path) -> None:
    client = limited(tmp_path, disk_bytes=10_000 + 2 * clip.stat().st_size)
    here = client.application.extensions[KEY]
    upload = send(client, clip).json
    assert upload is not None
    made = []
    for state in ("failed", "running"):
        asked = {"upload": upload["id"], "models": ["bicubic"]}
        job = client.post(f"{API}/samples", json=asked).json
        assert job is not None
        assert here.store.change_job(job["id"], ["queued"], state=state)
        folder = here.settings.jobs / job["id"]
        (folder / "made").mkdir()
        (folder / "made" / "part").write_bytes(bytes(5_000))
        made.append(folder)
    assert announce(client, 4_000 + clip.stat().st_size).status_code == 201
    assert [(folder / "made").exists() for folder in made] == [False, True]
    assert (made[0] / "input.mp4").exists()
    refused(announce(client, 4_000), 507, "disk_full")
    assert (made[1] / "made").exists()


def test_a_newer_plan_ends_the_one_before(
    app: Flask, upload: str, program_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_file.write_text("import time; time.sleep(1000)")
    start = process_module.start
    begun: list[Popen[str]] = []

    def slowly(module: str, words: Any, bounds: process_module.ResourceLimits) -> Popen[str]:
        begun.append(start("hostile" if len(begun) < 2 else module, words, bounds))
        return begun[-1]

    monkeypatch.setattr(process_module, "start", slowly)

    def ask(what: str, crf: int) -> TestResponse:
        asked = {"upload": upload, "options": {"model": "bicubic", "crf": crf}}
        return app.test_client(use_cookies=False).post(f"{API}/{what}", json=asked)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, "plans", 1)
        wait_until(lambda: len(begun) == 1)
        second = pool.submit(ask, "plans", 2)
        refused(first.result(60), 409, "superseded")
        wait_until(lambda: len(begun) == 2)
        assert ask("jobs", 3).status_code == 202  # who starts wants no more plans
        refused(second.result(60), 409, "superseded")


def test_a_client_comes_so_often_and_no_oftener(tmp_path: Path) -> None:
    client = limited(tmp_path, requests_per_second=0.01, burst=5)
    answers = [client.get(f"{API}/jobs") for _ in range(7)]
    assert [one.status_code for one in answers] == [200] * 5 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) > 1
    other = client.get(f"{API}/jobs", environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert other.status_code == 200
    assert client.get("/healthz").status_code == 200


def test_words_of_clients_make_no_new_numbers(tmp_path: Path) -> None:
    client = limited(tmp_path)
    for number in range(20):
        client.open(f"/nothing/{number}", method=f"METHOD{number}")
    text = client.get("/metrics").text
    assert 'method="other",route="unknown"' in text
    assert "METHOD" not in text
    assert "/nothing" not in text


def test_a_client_follows_so_many_streams(tmp_path: Path) -> None:
    client = limited(tmp_path, streams_per_client=2)
    streams = [client.get(f"{API}/events", buffered=False) for _ in range(2)]
    refused(client.get(f"{API}/events"), 429, "too_many")
    streams[0].close()
    again = client.get(f"{API}/events", buffered=False)
    assert again.status_code == 200
    for one in (*streams[1:], again):
        one.close()


def test_rates_fill_up_again_and_gates_count_each_client(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    rate = RateLimit(2, 3)
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert [rate.take("a"), rate.take("a")] == [0, 0.5]
    gate = ConcurrencyLimit(1)
    assert (gate.enter("a"), gate.enter("a"), gate.enter("b")) == (True, False, True)
    gate.leave("a")
    assert gate.enter("a")


@pytest.mark.parametrize(
    ("address", "client"),
    [("1.2.3.4", "1.2.3.4"), ("::ffff:1.2.3.4", "1.2.3.4"), ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
     ("fe80::1%eth0", "fe80::"), ("", "unknown"), (None, "unknown")],
)  # fmt: skip
def test_a_client_is_an_address_or_a_network(address: str | None, client: str) -> None:
    assert client_of(address) == client


# Children --------------------------------------------------------------------------------------


@pytest.fixture
def program_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `hostile` that a child can be made to run."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:src")
    return tmp_path / "hostile.py"


@pytest.mark.parametrize(
    ("program", "bounds", "seconds"),
    [
        ("b = bytearray(1 << 31)", process_module.ResourceLimits(memory=1 << 30), 60),
        ("while True: pass", process_module.ResourceLimits(cpu_seconds=1), 60),
        (
            "open(__file__ + '.big', 'wb').write(b'x' * 10_000)",
            process_module.ResourceLimits(file_bytes=5_000),
            60,
        ),
        ("import time; time.sleep(1000)", process_module.ResourceLimits(), 1.5),
        ("import os; os.kill(os.getpid(), 11)", process_module.ResourceLimits(), 60),
    ],
)
def test_a_child_takes_no_more_than_it_may(
    program_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    bounds: process_module.ResourceLimits,
    seconds: float,
) -> None:
    program_file.write_text(program)
    ended = process_module.run("hostile", [], bounds, seconds)
    assert ended.code != 0
    assert ended.late == (seconds < 60)


@pytest.fixture
def waiting(program_file: Path, tmp_path: Path) -> Iterator[Callable[[], Popen[str]]]:
    """Starts children that hold one lock and wait, and say so when they have it."""
    program_file.write_text("import time; print('up', flush=True); time.sleep(1000)")
    bounds = process_module.ResourceLimits(lock=str(tmp_path / "lock"))
    started: list[Popen[str]] = []

    def start() -> Popen[str]:
        started.append(process_module.start("hostile", [], bounds))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_a_child_ends_with_whoever_started_it(waiting: Callable[[], Popen[str]]) -> None:
    process = waiting()
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "up\n"
    process.stdin.close()  # what the system does for a process that was killed
    assert process.wait(60) != 0


def test_a_child_waits_until_the_one_before_has_let_go(waiting: Callable[[], Popen[str]]) -> None:
    first = waiting()
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    second = waiting()
    assert second.stdout is not None
    assert select.select([second.stdout], [], [], 2)[0] == []
    first.kill()
    assert second.stdout.readline() == "up\n"


# Settings --------------------------------------------------------------------------------------


def test_settings_go_through_a_pipe_whole(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, token="x", public_hosts=("a", "b"), limits=LIMITS)
    assert Settings.from_json(settings.to_json()) == settings
    assert "\n" not in settings.to_json()


def test_limits_are_words_with_units() -> None:
    found = limits_of(["upload_bytes=4G", "keep_hours=0.5", "job_bytes=none", "burst=7"])
    assert (found.upload_bytes, found.keep_hours, found.job_bytes, found.burst) == (
        4 << 30, 0.5, None, 7,
    )  # fmt: skip
    for word in ("upload_byte=4", "burst=x", "burst=none", "burst"):
        with pytest.raises(UsageError):
            limits_of([word])


def test_logs_are_objects_of_one_line() -> None:
    import json
    import logging

    record = logging.LogRecord("a", logging.INFO, "f", 1, "two\nlines %s", ("x",), None)
    line = JsonFormatter("server").format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines x"


def test_every_limit_and_every_route_is_documented(app: Flask) -> None:
    text = (REPO / "docs" / "web.md").read_text()
    for one in fields(Limits):
        assert f"`{one.name}`" in text, one.name
    for path in app.test_client().get(f"{API}/openapi.json").json["paths"]:  # type: ignore[index]
        words = path.replace("{upload_id}", "ID").replace("{job_id}", "ID")
        last = words.rsplit("/", 1)[-1].replace("{model}", "MODEL").replace("{side}", "before")
        assert last in text, path
