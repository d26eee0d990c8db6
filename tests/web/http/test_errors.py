"""Error responses: JSON for programs, pages for people, and no internals."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from sharpreel.web.jobs import service
from tests.support.site_app import assert_rejected, make_app
from tests.support.site_process import API


def test_an_unexpected_error_reveals_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path)
    monkeypatch.setattr(service, "models", lambda: 1 / 0)
    message = assert_rejected(app.test_client().get(f"{API}/models"), 500, "internal")
    assert "ZeroDivision" not in message
    assert not app.debug


def test_a_person_gets_a_page_and_a_program_gets_json(
    browser: FlaskClient, program: FlaskClient
) -> None:
    page = browser.get("/nothing", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert_rejected(browser.get("/nothing", headers={"Accept": "*/*"}), 404, "not_found")
    assert_rejected(program.put(f"{API}/jobs"), 405, "method_not_allowed")
