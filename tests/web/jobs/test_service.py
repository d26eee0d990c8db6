"""Life cycle of jobs: limits, plans, recovery of lost jobs, expiry."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from sharpreel.web.jobs import service
from sharpreel.web.jobs.queue import JobQueue
from sharpreel.web.jobs.store import LEASE_SECONDS, JobStore
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings
from tests.support.jobs import add_job
from tests.support.site_app import assert_rejected, begin_upload, limited_client, upload_file
from tests.support.site_process import API, RunningSite, in_the_middle, wait_until


def test_a_job_is_paused_resumed_and_cancelled(running: RunningSite, long_clip: Path) -> None:
    client = running.client
    job = client.job(client.upload(long_clip), model="reel-fast")
    path = f"/jobs/{job['id']}"
    shown = client.wait_for(job, lambda now: in_the_middle(now) and "frame_after" in now["urls"])
    for side in ("before", "after"):
        image = client.request("GET", shown["urls"][f"frame_{side}"])
        assert image.headers["content-type"] == "image/jpeg"
        assert image.body[:2] == b"\xff\xd8"
    client.call("POST", f"{path}/pause")
    paused = client.wait_for(job, lambda now: now["state"] == "paused")
    assert client.api("POST", f"{path}/pause").code == "wrong_state"
    assert client.api("POST", f"{path}/retry").code == "wrong_state"
    assert client.api("GET", f"{path}/result").code == "not_ready"
    client.call("POST", f"{path}/resume")
    resumed = client.wait_for(job, lambda now: now["state"] == "running" and now["frames"] > 0)
    assert resumed["frames"] >= 10 * (paused["segment"] - 1)
    client.call("POST", f"{path}/cancel")
    client.wait_for(job, lambda now: now["state"] == "cancelled")
    assert client.api("POST", f"{path}/cancel").code == "wrong_state"
    assert client.api("POST", f"{path}/resume").code == "wrong_state"
    assert client.api("DELETE", path).status == 204


def test_a_small_file_cannot_expand_to_an_endless_result(tmp_path: Path, clip: Path) -> None:
    client = limited_client(tmp_path, result_pixels=24 * 128 * 96)
    upload = upload_file(client, clip).json
    assert upload is not None
    for options in ({"scale": 4}, {"height": 1080}):
        body = {"upload": upload["id"], "options": options}
        for path in ("plans", "jobs"):
            assert_rejected(client.post(f"{API}/{path}", json=body), 422, "too_many_pixels")


def test_the_numbers_of_uploads_and_jobs_of_a_client_are_limited(
    tmp_path: Path, clip: Path
) -> None:
    client = limited_client(tmp_path, uploads_per_client=2, jobs_per_client=1)
    upload = upload_file(client, clip).json
    assert upload is not None
    assert [begin_upload(client).status_code for _ in range(3)] == [201, 201, 429]
    body = {"upload": upload["id"], "models": ["bicubic"]}
    first = client.post(f"{API}/samples", json=body)
    assert first.status_code == 202
    assert_rejected(client.post(f"{API}/samples", json=body), 429, "too_many")
    assert first.json is not None
    assert client.post(f"{API}/jobs/{first.json['id']}/cancel").json["state"] == "cancelled"  # type: ignore[index]
    assert client.post(f"{API}/samples", json=body).status_code == 202
    other = client.post(f"{API}/samples", json=body, environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert other.status_code == 202


def test_a_newer_plan_supersedes_the_previous_one(
    app: Flask, upload: str, program_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_file.write_text("import time; time.sleep(1000)")
    start = process.start
    begun: list[Popen[str]] = []

    def slowly(module: str, arguments: Any, limits: process.ResourceLimits) -> Popen[str]:
        begun.append(start("hostile" if len(begun) < 2 else module, arguments, limits))
        return begun[-1]

    monkeypatch.setattr(process, "start", slowly)

    def ask(what: str, crf: int) -> TestResponse:
        body = {"upload": upload, "options": {"model": "bicubic", "crf": crf}}
        return app.test_client(use_cookies=False).post(f"{API}/{what}", json=body)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, "plans", 1)
        wait_until(lambda: len(begun) == 1)
        second = pool.submit(ask, "plans", 2)
        assert_rejected(first.result(60), 409, "superseded")
        wait_until(lambda: len(begun) == 2)
        assert ask("jobs", 3).status_code == 202  # starting a job ends the plans
        assert_rejected(second.result(60), 409, "superseded")


def test_a_job_with_an_expired_lease_is_requeued_and_its_old_worker_cannot_change_it(
    store: JobStore, queues: dict[str, JobQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_job(store)
    assert store.claim(job.id, "one")
    assert service.recover_lost(store, queues) == []
    later = time.time() + LEASE_SECONDS + 1
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        assert [one.id for one in service.recover_lost(store, queues)] == [job.id]
    assert queues["videos"].waiting() == {job.id}
    assert store.renew_lease(job.id, "one") is None
    assert not store.change_own_job(job.id, "one", state="done")
    assert store.claim(job.id, "two")
    assert store.job(job.id).worker == "two"  # type: ignore[union-attr]


def test_a_job_that_crashes_its_workers_is_given_up(
    store: JobStore, queues: dict[str, JobQueue]
) -> None:
    job = add_job(store)
    for crash in range(service.MAX_CRASHES):
        assert store.claim(job.id, f"worker-{crash}")
        service.recover_lost(store, queues, f"worker-{crash}")
    found = store.job(job.id)
    assert found is not None
    assert (found.state, found.crash_count) == ("failed", service.MAX_CRASHES)


def test_old_jobs_and_uploads_expire_with_their_files(settings: Settings, store: JobStore) -> None:
    kept = add_job(store, state="queued")
    ended = add_job(store, state="done", finished=time.time())
    upload = store.add_upload(name="a.mp4", suffix=".mp4", size=4, client="x")
    store.update_upload(upload.id, state="ready")
    unfinished = store.add_upload(name="b.mp4", suffix=".mp4", size=4, client="x")
    folders = [settings.jobs / job.id for job in (kept, ended)]
    for folder in folders:
        folder.mkdir()
        (folder / "video.mp4").write_text("x")
    files = [settings.uploads / f"{one.id}.mp4" for one in (upload, unfinished)]
    for file in files:
        file.write_text("x")
    assert service.expire(settings, store) == 0
    assert service.expire(settings, store, time.time() + 3700) == 3
    assert [folder.exists() for folder in folders] == [True, False]
    assert [file.exists() for file in files] == [False, False]
    assert store.uploads() == []
    service.expire(settings, store, time.time() + 7400)
    assert [job.id for job in store.jobs()] == [kept.id]


def test_a_resumed_job_keeps_its_start_time(
    settings: Settings, store: JobStore, queues: dict[str, JobQueue]
) -> None:
    site: Any = SimpleNamespace(settings=settings, store=store, queues=queues)
    job = add_job(store)
    first = store.claim(job.id, "one")
    assert first is not None
    store.change_own_job(job.id, "one", state="paused", worker=None, lease=None)
    service.resume(site, job.id)
    second = store.claim(job.id, "two")
    assert second is not None
    assert second.started == first.started
    store.change_own_job(job.id, "two", state="failed", worker=None, lease=None)
    service.retry(site, job.id)
    third = store.claim(job.id, "three")
    assert third is not None
    assert third.started > first.started  # type: ignore[operator]


def test_options_of_the_api_become_options_of_the_command() -> None:
    arguments = service.cli_options({"model": "reel", "height": 720, "container": "mkv"}, "local")
    assert arguments == [
        "--model=reel",
        "--height=720",
        "--allow-audio-transcode",
        "--cluster=local",
    ]
