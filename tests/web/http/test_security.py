"""Access control: what a foreign page, host or client gets is an error in one form, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sharpreel.errors import UsageError
from tests.support.site_app import (
    FOREIGN_ORIGIN,
    LIMITS,
    OWN_ORIGIN,
    TOKEN,
    assert_rejected,
    begin_upload,
    limited_client,
    login_form_token,
    make_app,
    page_token,
)
from tests.support.site_process import API, running_site, wait_until


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    limits = replace(LIMITS, logins_per_minute=5)
    return make_app(tmp_path_factory.mktemp("guarded"), token=TOKEN, limits=limits)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_foreign_host_name_reads_nothing(program: FlaskClient, host: str) -> None:
    for path in (f"{API}/jobs", "/", "/metrics", "/healthz"):
        response = program.get(path, headers={"Host": host, "Accept": "application/json"})
        message = assert_rejected(response, 421, "wrong_host")
        assert "--" not in message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_host_names_of_this_machine_are_accepted(program: FlaskClient, host: str) -> None:
    assert program.get(f"{API}/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        FOREIGN_ORIGIN,
        {"Origin": "null"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    program: FlaskClient, headers: dict[str, str]
) -> None:
    assert_rejected(begin_upload(program, headers=headers), 403, "wrong_origin")
    assert_rejected(program.patch(f"{API}/uploads/0", headers=headers), 403, "wrong_origin")
    assert_rejected(program.delete(f"{API}/jobs/0", headers=headers), 403, "wrong_origin")
    assert_rejected(program.get(f"{API}/events", headers=headers), 403, "wrong_origin")


def test_a_link_from_another_site_can_be_followed(program: FlaskClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert program.get(f"{API}/models", headers=headers).status_code == 200
    assert program.get("/", headers=headers).status_code == 200


def test_a_browser_must_send_the_csrf_token_of_its_own_page(
    app: Flask, browser: FlaskClient
) -> None:
    token = page_token(browser)
    assert_rejected(begin_upload(browser, headers=OWN_ORIGIN), 403, "forged")
    assert_rejected(begin_upload(browser), 403, "forged")  # the cookie reveals a browser, too
    assert_rejected(
        begin_upload(browser, headers={**OWN_ORIGIN, "X-CSRF-Token": "guess"}), 403, "forged"
    )
    other = page_token(app.test_client())
    assert_rejected(
        begin_upload(browser, headers={**OWN_ORIGIN, "X-CSRF-Token": other}), 403, "forged"
    )
    assert begin_upload(browser, headers={**OWN_ORIGIN, "X-CSRF-Token": token}).status_code == 201


def test_the_cookie_is_hidden_from_scripts_and_other_sites(
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
def test_content_types_of_forms_are_rejected(program: FlaskClient, kind: str) -> None:
    body = b'{"name": "a.mp4", "size": 100}'
    response = program.post(f"{API}/uploads", data=body, content_type=kind)
    assert_rejected(response, 415, "wrong_type")
    assert_rejected(
        program.post(f"{API}/jobs/0/cancel", data=b"", content_type=kind), 415, "wrong_type"
    )


def test_every_response_has_the_security_headers(browser: FlaskClient) -> None:
    for path in ("/", "/nothing", f"{API}/jobs", f"{API}/nothing", "/static/style.css"):
        response = browser.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        response.close()


def test_a_live_socket_opens_only_from_a_page_of_this_site(program: FlaskClient) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    }
    for more in (FOREIGN_ORIGIN, {}, {"Origin": "null"}):
        response = program.get("/live/socket", headers={**upgrade, **more})
        assert response.status_code == 403
        assert response.json["error"]["code"] == "wrong_origin"  # type: ignore[index]


def test_without_the_token_nothing_is_revealed(guarded: Flask) -> None:
    client = guarded.test_client(use_cookies=False)
    for path in (f"{API}/jobs", f"{API}/openapi.json", f"{API}/events", f"{API}/nothing"):
        response = client.get(path)
        assert_rejected(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert_rejected(begin_upload(client), 401, "unauthorized")
    page = client.get("/jobs?x=1")
    assert (page.status_code, page.headers["Location"]) == (302, "/login?next=%2Fjobs%3Fx%3D1")
    assert client.get("/metrics").status_code == 302
    assert client.get("/healthz").status_code == 200
    with client.get("/static/style.css") as style:
        assert style.status_code == 200


def test_a_program_with_the_token_can_use_the_api(guarded: Flask) -> None:
    client = guarded.test_client(use_cookies=False)
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get(f"{API}/jobs", headers=right).status_code == 200
    assert begin_upload(client, headers=right).status_code == 201
    assert_rejected(begin_upload(client, headers={**right, **FOREIGN_ORIGIN}), 403, "wrong_origin")
    answers = [
        client.get(f"{API}/jobs", headers={"Authorization": "Bearer guess"}) for _ in range(8)
    ]
    assert [one.status_code for one in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_after_too_many_wrong_tokens_the_right_one_is_rejected_too(tmp_path: Path) -> None:
    limits = replace(LIMITS, logins_per_minute=3)
    app = make_app(tmp_path, token=TOKEN, limits=limits)
    inside, guesser, program = (app.test_client(use_cookies=n < 2) for n in range(3))
    log_in(inside)
    for _ in range(3):
        wrong = {"Authorization": "Bearer guess"}
        assert_rejected(program.get(f"{API}/jobs", headers=wrong), 401, "unauthorized")
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert_rejected(program.get(f"{API}/jobs", headers=right), 429, "too_many")
    assert log_in(guesser).status_code == 429
    assert guesser.get(f"{API}/jobs").status_code == 401
    assert inside.get(f"{API}/jobs").status_code == 200
    elsewhere = {"REMOTE_ADDR": "10.0.0.9"}
    assert program.get(f"{API}/jobs", headers=right, environ_base=elsewhere).status_code == 200


def log_in(browser: FlaskClient) -> TestResponse:
    form = {"csrf_token": login_form_token(browser), "token": TOKEN}
    return browser.post("/login", data=form)


def test_a_browser_logs_in_once_and_is_redirected_within_this_site(tmp_path: Path) -> None:
    app = make_app(tmp_path, token=TOKEN)
    browser = app.test_client()
    csrf_token = login_form_token(browser)
    wrong = {"csrf_token": csrf_token, "token": "guess", "next": "/jobs"}
    assert browser.post("/login", data=wrong).status_code == 401
    assert browser.get(f"{API}/jobs").status_code == 401
    forged = {"csrf_token": "x", "token": TOKEN}
    assert browser.post("/login", data=forged).status_code == 403
    right = {"csrf_token": csrf_token, "token": TOKEN, "next": "/jobs"}
    response = browser.post("/login", data=right)
    assert (response.status_code, response.headers["Location"]) == (303, "/jobs")
    assert browser.get(f"{API}/jobs").status_code == 200
    for target in ("//evil.example", "/\\evil.example", "https://evil.example", "/a\nb", "x"):
        away = browser.get("/login", query_string={"next": target})
        assert away.headers["Location"] == "/"
    # A changed token invalidates the cookie.
    again = make_app(tmp_path, token="another token").test_client()
    cookie = browser.get_cookie("sharpreel")
    assert cookie is not None
    again.set_cookie("sharpreel", cookie.value)
    assert again.get(f"{API}/jobs").status_code == 401


def test_a_site_that_other_machines_can_reach_always_has_a_token(tmp_path: Path) -> None:
    for values in ({"host": "0.0.0.0"}, {"public_hosts": ("video.example",)}, {"proxies": 1}):
        with pytest.raises(UsageError, match="needs a token"):
            make_app(tmp_path, **values)
    with running_site(tmp_path / "data", "--host", "0.0.0.0") as site:
        assert site.client.api("GET", "/jobs").code == "unauthorized"
        (line,) = wait_until(lambda: [line for line in list(site.log) if "Token" in line])
        token = line.split()[-1]
        assert site.client.api("GET", "/jobs", Authorization=f"Bearer {token}").json == []
        assert not any(token in one.cmdline() for one in site.processes("-m"))


def test_behind_a_proxy_the_client_is_the_one_that_the_proxy_names(tmp_path: Path) -> None:
    app = make_app(
        tmp_path,
        token=TOKEN,
        proxies=1,
        public_hosts=("video.example",),
        limits=replace(LIMITS, uploads_per_client=1),
    )
    client = app.test_client(use_cookies=False)
    right = {"Authorization": f"Bearer {TOKEN}"}

    def of(address: str) -> int:
        headers = {**right, "X-Forwarded-For": address, "X-Forwarded-Host": "video.example"}
        return begin_upload(client, headers=headers).status_code

    assert [of("1.1.1.1"), of("1.1.1.1"), of("9.9.9.9, 2.2.2.2"), of("8.8.8.8, 2.2.2.2")] == [
        201,
        429,
        201,
        429,
    ]
    wrong = {**right, "X-Forwarded-For": "1.1.1.1", "X-Forwarded-Host": "evil.example"}
    assert_rejected(client.get(f"{API}/jobs", headers=wrong), 421, "wrong_host")


def test_the_request_rate_of_a_client_is_limited(tmp_path: Path) -> None:
    client = limited_client(tmp_path, requests_per_second=0.01, burst=5)
    answers = [client.get(f"{API}/jobs") for _ in range(7)]
    assert [one.status_code for one in answers] == [200] * 5 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) > 1
    other = client.get(f"{API}/jobs", environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert other.status_code == 200
    assert client.get("/healthz").status_code == 200
