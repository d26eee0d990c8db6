"""Disk quota: what is rejected, and what is evicted to make room."""

from __future__ import annotations

import os
from pathlib import Path

from sharpreel.web.jobs.storage import delete_work, disk_used
from sharpreel.web.jobs.store import JobStore
from sharpreel.web.settings import Settings
from tests.support.jobs import add_video_job
from tests.support.site_app import (
    assert_rejected,
    begin_upload,
    limited_client,
    site_of,
    upload_file,
)
from tests.support.site_process import API


def test_uploads_that_do_not_fit_on_the_disk_are_rejected(tmp_path: Path) -> None:
    assert_rejected(
        begin_upload(limited_client(tmp_path / "a", spare_bytes=1 << 60)), 507, "disk_full"
    )
    client = limited_client(tmp_path / "b", disk_bytes=250)
    assert begin_upload(client, 200).status_code == 201
    assert_rejected(begin_upload(client, 100), 507, "disk_full")
    assert begin_upload(client, 50).status_code == 201


def test_work_of_failed_jobs_is_evicted(tmp_path: Path, clip: Path) -> None:
    client = limited_client(tmp_path, disk_bytes=10_000 + 2 * clip.stat().st_size)
    site = site_of(client.application)
    upload = upload_file(client, clip).json
    assert upload is not None
    folders = []
    for state in ("failed", "running"):
        body = {"upload": upload["id"], "models": ["bicubic"]}
        job = client.post(f"{API}/samples", json=body).json
        assert job is not None
        assert site.store.change_job(job["id"], ["queued"], state=state)
        folder = site.settings.jobs / job["id"]
        (folder / "output").mkdir()
        (folder / "output" / "part").write_bytes(bytes(5_000))
        folders.append(folder)
    assert begin_upload(client, 4_000 + clip.stat().st_size).status_code == 201
    assert [(folder / "output").exists() for folder in folders] == [False, True]
    assert (folders[0] / "input.mp4").exists()
    assert_rejected(begin_upload(client, 4_000), 507, "disk_full")
    assert (folders[1] / "output").exists()


def test_a_file_with_two_names_counts_once(settings: Settings) -> None:
    source = settings.upload_file("1", ".mp4")
    source.write_bytes(bytes(1000))
    settings.job_folder("2").mkdir()
    os.link(source, settings.job_input("2", ".mp4"))
    assert disk_used(settings) == 1000


def test_deleting_work_keeps_the_input(settings: Settings, store: JobStore, clip: Path) -> None:
    job = add_video_job(settings, store, clip)
    folder = settings.job_folder(job.id)
    assert not delete_work(settings, job)
    (folder / "output").mkdir()
    (folder / "after.jpg").touch()
    (folder / "lock").touch()
    assert delete_work(settings, job)
    assert {path.name for path in folder.iterdir()} == {"input.mp4", "lock"}
