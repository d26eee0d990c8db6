"""The site as a Flask application in this process, and requests to it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sharpreel.web import create_app
from sharpreel.web.context import EXTENSION, SiteContext
from sharpreel.web.settings import Limits, Settings
from tests.support.site_process import API

LIMITS = Limits(requests_per_second=1000, burst=1000)
TOKEN = "a long enough token"
OWN_ORIGIN = {"Origin": "http://localhost"}
FOREIGN_ORIGIN = {"Origin": "http://evil.example"}

_apps: list[Flask] = []


def make_app(folder: Path, **values: Any) -> Flask:
    """A site with these settings and generous rate limits; `close_apps` closes it."""
    values.setdefault("limits", LIMITS)
    _apps.append(create_app(Settings(data_dir=folder, **values)))
    return _apps[-1]


def close_apps() -> None:
    """Close the files of all sites made so far."""
    while _apps:
        site_of(_apps.pop()).close()


def site_of(app: Flask) -> SiteContext:
    site: SiteContext = app.extensions[EXTENSION]
    return site


def limited_client(folder: Path, **values: Any) -> FlaskClient:
    """A program that talks to a site with these limits; it has no cookies."""
    return make_app(folder, limits=replace(LIMITS, **values)).test_client(use_cookies=False)


def assert_rejected(response: TestResponse, status: int, code: str) -> str:
    """Check an error and its form; returns its message."""
    assert response.status_code == status, response.data
    error = response.json["error"]  # type: ignore[index]
    assert error["code"] == code, error
    assert error["request_id"] == response.headers["X-Request-ID"]
    assert "Traceback" not in response.text
    return str(error["message"])


def page_token(browser: FlaskClient) -> str:
    """The CSRF token of the start page."""
    found = re.search(r'name="csrf-token" content="([^"]+)"', browser.get("/").text)
    assert found
    return found[1]


def login_form_token(browser: FlaskClient) -> str:
    form = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/login").text)
    assert form
    return form[1]


def begin_upload(
    client: FlaskClient, size: int = 100, name: str = "a.mp4", **more: Any
) -> TestResponse:
    return client.post(f"{API}/uploads", json={"name": name, "size": size}, **more)


def send_chunk(
    client: FlaskClient, upload: str, data: bytes, offset: int = 0, **more: Any
) -> TestResponse:
    headers = {"Upload-Offset": str(offset), **more}
    return client.patch(f"{API}/uploads/{upload}", data=data, headers=headers)


def upload_file(client: FlaskClient, path: Path, **more: Any) -> TestResponse:
    """Upload a file; returns the response of its finish, or the first error."""
    data = path.read_bytes()
    begun = begin_upload(client, len(data), path.name, **more)
    if begun.status_code != 201:
        return begun
    upload = begun.json["id"]  # type: ignore[index]
    sent = send_chunk(client, upload, data)
    return sent if sent.status_code != 200 else client.post(f"{API}/uploads/{upload}/finish")
