"""Fixtures for tests of the site: a running site, applications in this process, a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from sharpreel.web.jobs.queue import LANES, JobQueue
from sharpreel.web.jobs.store import JobStore
from sharpreel.web.settings import Limits, Settings
from tests.support.site_app import close_apps, make_app, upload_file
from tests.support.site_process import (
    NO_RATE_LIMITS,
    SHORT_SEGMENTS,
    Client,
    RunningSite,
    running_site,
)
from tests.support.videos import make_clip


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be interrupted, with a key frame every ten frames."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return make_clip(path, size=(640, 360), frames=200, options={"g": "10", "preset": "ultrafast"})


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return make_app(tmp_path_factory.mktemp("open"))


@pytest.fixture
def program(app: Flask) -> FlaskClient:
    """A client that is not a browser: without cookies."""
    return app.test_client(use_cookies=False)


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def program_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module `hostile`, which child processes can import."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:src")
    return tmp_path / "hostile.py"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", limits=Limits(keep_hours=1, unfinished_hours=1))
    settings.prepare()
    return settings


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    store = JobStore(settings.database)
    yield store
    store.close()


@pytest.fixture
def queues(settings: Settings) -> Iterator[dict[str, JobQueue]]:
    queues = {lane: JobQueue(settings, lane) for lane in LANES.values()}
    yield queues
    for queue in queues.values():
        queue.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """One site for all tests that leave it as it was."""
    limits = ("chunk_bytes=20000", "uploads_per_client=50", "connections_per_client=24")
    options = [text for limit in limits for text in ("--limit", limit)]
    folder = tmp_path_factory.mktemp("site") / "data"
    with running_site(folder, *NO_RATE_LIMITS, *SHORT_SEGMENTS, *options) as site:
        yield site


@pytest.fixture
def client(running: RunningSite) -> Client:
    return running.client


@pytest.fixture(scope="session")
def finished(running: RunningSite, clip: Path) -> tuple[Any, Any]:
    """An upload, and its finished job."""
    upload = running.client.upload(clip, "Lïvé 映画.mp4")
    return upload, running.client.wait_until_done(running.client.job(upload))


@pytest.fixture(scope="module", autouse=True)
def applications() -> Iterator[None]:
    """Closes the applications of a module."""
    yield
    close_apps()


@pytest.fixture(scope="module")
def upload(app: Flask, clip: Path) -> str:
    """The id of a finished upload."""
    response = upload_file(app.test_client(use_cookies=False), clip)
    assert response.json is not None
    return str(response.json["id"])
