"""Workers: jobs survive crashes of their worker and of the site, and stop at their limits."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from sharpreel.web.http import schemas
from sharpreel.web.jobs import service
from sharpreel.web.jobs import worker as worker_module
from sharpreel.web.jobs.queue import JobQueue
from sharpreel.web.jobs.store import JobStore
from sharpreel.web.jobs.worker import Worker
from sharpreel.web.settings import Limits, Settings
from tests.support.jobs import add_job, add_video_job
from tests.support.site_process import (
    NO_RATE_LIMITS,
    SHORT_SEGMENTS,
    RunningSite,
    in_the_middle,
    running_site,
    survivors,
    wait_until,
)
from tests.support.terminal import sharpreel
from tests.support.videos import make_clip


def children_of(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for one in process.children():
        with suppress(psutil.NoSuchProcess):
            if "sharpreel" in one.cmdline():
                found.append(one)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)  # three starts of a site, on a machine that may be busy
def test_the_result_is_the_same_after_a_killed_worker_and_a_killed_site(
    tmp_path: Path, long_clip: Path
) -> None:
    folder = tmp_path / "data"
    with running_site(folder, *NO_RATE_LIMITS, *SHORT_SEGMENTS) as site:
        job = site.client.job(site.client.upload(long_clip), model="reel-fast")
        before = site.client.wait_for(job, in_the_middle)
        (worker,) = site.processes("videos")
        at_work = children_of(worker)
        assert at_work
        worker.kill()
        assert not survivors(at_work)  # the child does not outlive its worker
        seen: list[int] = []

        def further(now: Any) -> bool:
            seen.append(now["frames"])
            return bool(now["frames"] > before["frames"] + 20)

        site.client.wait_for(job, further)
        assert min(seen) >= 10 * (before["segment"] - 1)  # finished segments are not repeated
        everyone = psutil.Process(site.process.pid).children(recursive=True)
        site.process.kill()
        site.process.wait()
        assert not survivors(everyone)
    with running_site(folder, *NO_RATE_LIMITS, *SHORT_SEGMENTS) as site:
        at = site.client.call("GET", f"/jobs/{job['id']}")["frames"]
        site.client.wait_for(job, lambda now: now["state"] == "running" and now["frames"] > at + 20)
        assert site.stop() == 0  # a clean stop in the middle
    table = JobStore(folder / "site.sqlite3")
    found = table.job(job["id"])
    table.close()
    assert found is not None
    assert (found.state, found.worker, found.crash_count) == ("queued", None, 1)
    with running_site(folder, *NO_RATE_LIMITS, *SHORT_SEGMENTS) as site:
        done = site.client.wait_until_done(job)
        result = site.client.request("GET", done["urls"]["result"]).body
    uncut = tmp_path / "uncut.mp4"
    assert (
        sharpreel("upscale", long_clip, "-o", uncut, "-m", "reel-fast", *SHORT_SEGMENTS).returncode
        == 0
    )
    assert result == uncut.read_bytes()


def test_a_crashed_decoder_fails_only_its_job_which_can_be_retried(
    running: RunningSite, long_clip: Path, clip: Path
) -> None:
    client = running.client
    job = client.job(client.upload(long_clip), model="reel-fast")
    other = client.job(client.upload(clip))
    client.wait_for(job, in_the_middle)
    (worker,) = running.processes("videos")
    (at_work,) = [one for one in children_of(worker) if "upscale" in one.cmdline()]
    at_work.send_signal(signal.SIGSEGV)
    failed = client.wait_for(job, lambda now: now["state"] == "failed")
    assert "SIGSEGV" in failed["error"]
    assert "Traceback" not in failed["error"]
    assert client.wait_until_done(other)["result"]["bytes"] > 0
    assert [one.pid for one in running.processes("videos")] == [worker.pid]
    client.call("POST", f"/jobs/{job['id']}/retry")
    more = client.wait_for(job, in_the_middle)
    assert more["error"] is None
    assert client.api("DELETE", f"/jobs/{job['id']}").status == 204
    assert client.api("GET", f"/jobs/{job['id']}").code == "not_found"
    assert not survivors([at_work])
    wait_until(lambda: not children_of(worker))


def test_frames_that_cannot_be_decoded_are_noted_and_do_not_fail_the_job(
    running: RunningSite, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "whole.ts", frames=48, options={"g": "12"}, audio=False)
    data = bytearray(clip.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = os.urandom(4000)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    job = running.client.wait_until_done(running.client.job(running.client.upload(damaged)))
    assert job["notes"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"result_pixels": 10 * 128 * 96}, "longer than its header claims"),
        ({"disk_bytes": 1}, "disk is full"),
        ({"stall_seconds": 0.01}, "made no progress"),
        # Where it ends depends on what it loads when the memory is used up.
        ({"job_bytes": 200 << 20}, "without an error message|ImportError|out of memory"),
    ],
)
def test_a_job_that_exceeds_a_limit_is_stopped(
    tmp_path: Path, clip: Path, limits: dict[str, Any], message: str
) -> None:
    settings = Settings(data_dir=tmp_path / "data", limits=Limits(**limits))
    settings.prepare()
    worker = Worker(settings, "me", threading.Event())
    store = worker.store
    job = add_video_job(settings, store, clip)
    worker.work(job.id)
    found = store.job(job.id)
    store.close()
    assert found is not None
    assert (found.state, found.worker) == ("failed", None)
    assert re.search(message, str(found.error))


def test_thumbnails_are_written_before_the_segment_is_finished(
    tmp_path: Path, long_clip: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.prepare()
    worker = Worker(settings, "me", threading.Event())
    # Slow enough for a thumbnail, with a codec that writes each frame at once.
    job = add_job(worker.store, options={"model": "reel", "scale": 4, "codec": "ffv1"})
    folder = settings.jobs / job.id
    folder.mkdir()
    shutil.copyfile(long_clip, folder / "input.mp4")
    making = threading.Thread(target=worker.work, args=[job.id])
    making.start()
    wait_until((folder / "after.jpg").exists)
    now = worker.store.job(job.id)
    assert now is not None
    assert (now.state, now.stage, now.segments) == ("running", "upscale", 1)
    worker.store.change_job(job.id, ["running"], requested_state="cancelled")
    making.join()
    worker.store.close()


@pytest.mark.parametrize(
    ("codec", "seconds", "plays"), [(None, 0.5, 0.5), ("ffv1", 0.5, 0.5), ("ffv1", 600.0, None)]
)
def test_a_result_says_how_much_of_it_plays(
    tmp_path: Path, clip: Path, codec: str | None, seconds: float, plays: float | None
) -> None:
    settings = Settings(data_dir=tmp_path / "data", limits=Limits(play_seconds=seconds))
    settings.prepare()
    worker = Worker(settings, "me", threading.Event())
    job = add_job(worker.store, suffix=".mkv", options={"model": "bicubic", "codec": codec})
    (settings.jobs / job.id).mkdir()
    source = settings.jobs / job.id / "input.mkv"
    make_clip(source, frames=24)
    worker.work(job.id)
    found = worker.store.job(job.id)
    worker.store.close()
    assert found is not None
    assert found.result is not None, found.error
    assert schemas.Result.model_validate(found.result).plays_seconds == plays


def test_a_requested_pause_survives_the_death_of_the_worker(
    settings: Settings, store: JobStore, queues: dict[str, JobQueue], clip: Path
) -> None:
    job = add_video_job(settings, store, clip)
    assert store.claim(job.id, "dead")
    assert store.change_job(job.id, ["running"], requested_state="paused")
    service.recover_lost(store, queues, "dead")
    worker = Worker(settings, "me", threading.Event())
    worker.work(job.id)
    assert store.job(job.id).state == "paused"  # type: ignore[union-attr]
    assert store.change_job(
        job.id, ["paused"], state="queued", requested_state=""
    )  # as service.resume does
    worker.work(job.id)
    worker.store.close()
    assert store.job(job.id).state == "done"  # type: ignore[union-attr]


def test_a_job_cancelled_while_it_is_pausing_is_cancelled(
    settings: Settings, store: JobStore, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_video_job(settings, store, clip)
    store.change_job(job.id, ["queued"], requested_state="paused")
    end_process = worker_module._end_process

    def slowly(process: Any) -> None:
        assert store.change_job(
            job.id, ["running"], requested_state="cancelled"
        )  # as service.cancel does
        end_process(process)

    monkeypatch.setattr(worker_module, "_end_process", slowly)
    worker = Worker(settings, "me", threading.Event())
    worker.work(job.id)
    worker.store.close()
    found = store.job(job.id)
    assert found is not None
    assert (found.state, found.requested_state) == ("cancelled", "")
    assert {path.name for path in (settings.jobs / job.id).iterdir()} <= {"input.mp4", "lock"}
