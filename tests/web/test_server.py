"""The server process: many clients at once, its log, and Werkzeug in place of Gunicorn."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sharpreel.media.verify import verify
from tests.support.site_process import NO_RATE_LIMITS, RunningSite, running_site, wait_until
from tests.support.videos import make_clip


def test_every_line_of_the_log_is_json_with_ids(
    running: RunningSite, finished: tuple[Any, Any]
) -> None:
    response = running.client.request("GET", "/healthz", headers={"X-Request-ID": "my-own.id"})
    assert response.headers["x-request-id"] == "my-own.id"

    def logged(name: str, value: str) -> bool:
        return any(json.loads(line).get(name) == value for line in list(running.log))

    wait_until(lambda: logged("request_id", "my-own.id"))
    wait_until(lambda: logged("job_id", finished[1]["id"]))


def test_werkzeug_serves_the_site_without_gunicorn(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from sharpreel.web.supervisor import serve
from sharpreel.web.settings import Settings
settings = Settings(data_dir=Path({str(tmp_path / "data")!r}), port=0, server="werkzeug")
serve(settings, lambda address: print("listens at", address, flush=True))
"""
    with running_site(tmp_path, command=[sys.executable, "-c", program]) as site:
        assert site.client.call("GET", "/models")
        assert site.stop() == 0


@pytest.mark.slow
def test_ten_concurrent_clients_each_get_their_own_video(tmp_path: Path) -> None:
    clips = [
        make_clip(tmp_path / f"{n}.mp4", size=(32 + 2 * n, 32), frames=6 + n) for n in range(10)
    ]
    many = ("--limit", "uploads_per_client=10")
    with running_site(tmp_path / "data", *NO_RATE_LIMITS, *many, "--workers", "2") as site:

        def one(clip: Path) -> list[str]:
            job = site.client.wait_until_done(site.client.job(site.client.upload(clip)))
            result = clip.with_name(f"made-{clip.name}")
            result.write_bytes(site.client.request("GET", job["urls"]["result"]).body)
            return verify(clip, result)

        with ThreadPoolExecutor(10) as pool:
            assert list(pool.map(one, clips)) == [[]] * 10
