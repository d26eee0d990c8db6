"""Jobs live on: through the end of their worker, of the whole site, of their own process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from sharpreel.errors import InputError, UsageError
from sharpreel.web import supervisor as serve_module
from sharpreel.web.http import schemas
from sharpreel.web.jobs import service
from sharpreel.web.jobs import worker as worker_module
from sharpreel.web.jobs.events import Feed
from sharpreel.web.jobs.queue import Queue, lanes
from sharpreel.web.jobs.store import LEASE_SECONDS, JobStore
from sharpreel.web.jobs.worker import Worker
from sharpreel.web.sandbox import thumbnails
from sharpreel.web.settings import Limits, Settings
from tests.support.site_process import PLENTY, Running, site, still_there, wait_until
from tests.support.terminal import sharpreel
from tests.support.videos import make_clip

SEGMENTS = ("--segment-seconds", "0.4")
FILMS = "films"


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be caught in the middle, with a key frame every ten frames."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return make_clip(path, size=(640, 360), frames=200, options={"g": "10", "preset": "ultrafast"})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with site(tmp_path_factory.mktemp("site") / "data", *PLENTY, *SEGMENTS) as it:
        yield it


def in_the_middle(job: Any) -> bool:
    return bool(job["state"] == "running" and job["segment"] >= 2)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for one in process.children():
        with suppress(psutil.NoSuchProcess):
            if "sharpreel" in one.cmdline():
                found.append(one)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)  # three starts of a site, on a machine that may be busy
def test_a_killed_worker_and_a_killed_site_cost_no_byte(tmp_path: Path, long_clip: Path) -> None:
    folder = tmp_path / "data"
    with site(folder, *PLENTY, *SEGMENTS) as it:
        job = it.client.job(it.client.upload(long_clip), model="reel-fast")
        before = it.client.until(job, in_the_middle)
        (worker,) = it.parts(FILMS)
        at_work = children_of(worker)
        assert at_work
        worker.kill()
        assert not still_there(at_work)  # the film's process does not outlive its worker
        seen: list[int] = []

        def further(now: Any) -> bool:
            seen.append(now["frames"])
            return bool(now["frames"] > before["frames"] + 20)

        it.client.until(job, further)
        assert min(seen) >= 10 * (before["segment"] - 1)  # what was finished is not made again
        everyone = psutil.Process(it.process.pid).children(recursive=True)
        it.process.kill()
        it.process.wait()
        assert not still_there(everyone)
    with site(folder, *PLENTY, *SEGMENTS) as it:
        at = it.client.good("GET", f"/jobs/{job['id']}")["frames"]
        it.client.until(job, lambda now: now["state"] == "running" and now["frames"] > at + 20)
        assert it.stop() == 0  # in good order, too, in the middle
    table = JobStore(folder / "site.sqlite3")
    found = table.job(job["id"])
    table.close()
    assert found is not None
    assert (found.state, found.worker, found.deaths) == ("queued", None, 1)
    with site(folder, *PLENTY, *SEGMENTS) as it:
        done = it.client.done(job)
        made = it.client.ask("GET", done["urls"]["result"]).body
    uncut = tmp_path / "uncut.mp4"
    assert (
        sharpreel("upscale", long_clip, "-o", uncut, "-m", "reel-fast", *SEGMENTS).returncode == 0
    )
    assert made == uncut.read_bytes()


def test_a_broken_decoder_ends_its_job_alone_and_the_job_can_be_tried_again(
    running: Running, long_clip: Path, clip: Path
) -> None:
    client = running.client
    job = client.job(client.upload(long_clip), model="reel-fast")
    other = client.job(client.upload(clip))
    client.until(job, in_the_middle)
    (worker,) = running.parts(FILMS)
    (at_work,) = [one for one in children_of(worker) if "upscale" in one.cmdline()]
    at_work.send_signal(signal.SIGSEGV)
    failed = client.until(job, lambda now: now["state"] == "failed")
    assert "SIGSEGV" in failed["error"]
    assert "Traceback" not in failed["error"]
    assert client.done(other)["result"]["bytes"] > 0
    assert [one.pid for one in running.parts(FILMS)] == [worker.pid]
    client.good("POST", f"/jobs/{job['id']}/retry")
    more = client.until(job, in_the_middle)
    assert more["error"] is None
    assert client.api("DELETE", f"/jobs/{job['id']}").status == 204
    assert client.api("GET", f"/jobs/{job['id']}").code == "not_found"
    assert not still_there([at_work])
    wait_until(lambda: not children_of(worker))


def test_a_job_is_paused_resumed_and_cancelled(running: Running, long_clip: Path) -> None:
    client = running.client
    job = client.job(client.upload(long_clip), model="reel-fast")
    place = f"/jobs/{job['id']}"
    shown = client.until(job, lambda now: in_the_middle(now) and "frame_after" in now["urls"])
    for side in ("before", "after"):
        picture = client.ask("GET", shown["urls"][f"frame_{side}"])
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.body[:2] == b"\xff\xd8"
    client.good("POST", f"{place}/pause")
    paused = client.until(job, lambda now: now["state"] == "paused")
    assert client.api("POST", f"{place}/pause").code == "wrong_state"
    assert client.api("POST", f"{place}/retry").code == "wrong_state"
    assert client.api("GET", f"{place}/result").code == "not_ready"
    client.good("POST", f"{place}/resume")
    resumed = client.until(job, lambda now: now["state"] == "running" and now["frames"] > 0)
    assert resumed["frames"] >= 10 * (paused["segment"] - 1)
    client.good("POST", f"{place}/cancel")
    client.until(job, lambda now: now["state"] == "cancelled")
    assert client.api("POST", f"{place}/cancel").code == "wrong_state"
    assert client.api("POST", f"{place}/resume").code == "wrong_state"
    assert client.api("DELETE", place).status == 204


def test_frames_that_do_not_decode_are_told_and_cost_no_job(
    running: Running, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "whole.ts", frames=48, options={"g": "12"}, audio=False)
    data = bytearray(clip.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = os.urandom(4000)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    job = running.client.done(running.client.job(running.client.upload(damaged)))
    assert job["notes"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"result_pixels": 10 * 128 * 96}, "longer than it says"),
        ({"disk_bytes": 1}, "disk is full"),
        ({"stall_seconds": 0.01}, "made no progress"),
        ({"job_bytes": 200 << 20}, "It ended without a word"),
    ],
)
def test_a_job_that_takes_more_than_it_may_is_stopped(
    tmp_path: Path, clip: Path, limits: dict[str, Any], words: str
) -> None:
    settings = Settings(data_dir=tmp_path / "data", limits=Limits(**limits))
    settings.prepare()
    worker = Worker(settings, "me", threading.Event())
    store = worker.store
    job = add_film(settings, store, clip)
    worker.work(job.id)
    found = store.job(job.id)
    store.close()
    assert found is not None
    assert (found.state, found.worker) == ("failed", None)
    assert words in str(found.error)


def test_the_newest_place_is_shown_before_its_segment_is_finished(
    tmp_path: Path, long_clip: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.prepare()
    worker = Worker(settings, "me", threading.Event())
    job = add(worker.store, options={"model": "reel", "scale": 4})  # slow enough to be looked at
    folder = settings.jobs / job.id
    folder.mkdir()
    shutil.copyfile(long_clip, folder / "input.mp4")
    making = threading.Thread(target=worker.work, args=[job.id])
    making.start()
    wait_until((folder / "after.jpg").exists)
    now = worker.store.job(job.id)
    assert now is not None
    assert (now.state, now.stage, now.segments) == ("running", "upscale", 1)
    worker.store.change_job(job.id, ["running"], wish="cancel")
    making.join()
    worker.store.close()


def test_a_segment_that_grows_is_compared_with_its_own_place(
    tmp_path: Path, long_clip: Path
) -> None:
    entry = {"name": "seg-00000.mkv", "pts": [0, 512, 1024]}
    (tmp_path / "journal.jsonl").write_text(json.dumps(entry) + '\n{"name": "seg')
    for name in ("part-seg-00001.mkv", "part-seg-00003.mkv"):
        (tmp_path / name).write_bytes(b"")
    assert list(thumbnails.places(tmp_path)) == [
        (tmp_path / "part-seg-00001.mkv", 1025), (tmp_path / "seg-00000.mkv", 0),
    ]  # fmt: skip
    with pytest.raises(InputError, match="no frame yet"):
        thumbnails.write_frames(long_clip, tmp_path, tmp_path)
    whole = make_clip(tmp_path / "whole.mkv", size=(128, 96), frames=100, audio=False)
    data = whole.read_bytes()
    (tmp_path / "part-seg-00001.mkv").write_bytes(data[: len(data) // 2])
    thumbnails.write_frames(long_clip, tmp_path, tmp_path)
    assert (tmp_path / "before.jpg").exists()
    assert (tmp_path / "after.jpg").exists()


@pytest.mark.parametrize(
    ("codec", "seconds", "plays"), [(None, 0.5, 0.5), ("ffv1", 0.5, 0.5), ("ffv1", 600.0, None)]
)
def test_a_job_tells_how_much_of_it_plays(
    tmp_path: Path, clip: Path, codec: str | None, seconds: float, plays: float | None
) -> None:
    settings = Settings(data_dir=tmp_path / "data", limits=Limits(play_seconds=seconds))
    settings.prepare()
    worker = Worker(settings, "me", threading.Event())
    job = add(worker.store, suffix=".mkv", options={"model": "bicubic", "codec": codec})
    (settings.jobs / job.id).mkdir()
    source = settings.jobs / job.id / "input.mkv"
    make_clip(source, frames=24)
    worker.work(job.id)
    found = worker.store.job(job.id)
    worker.store.close()
    assert found is not None
    assert found.result is not None, found.error
    assert schemas.Result.model_validate(found.result).plays_seconds == plays


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path / "data", limits=Limits(keep_hours=1, unfinished_hours=1))
    made.prepare()
    return made


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    made = JobStore(settings.database)
    yield made
    made.close()


@pytest.fixture
def queues(settings: Settings) -> Iterator[dict[str, Queue]]:
    made = {lane: Queue(settings, lane) for lane in lanes()}
    yield made
    for queue in made.values():
        queue.close()


def add(store: JobStore, **values: Any) -> Any:
    return store.add_job(
        **{"kind": "upscale", "name": "a", "suffix": ".mp4", "upload": "0" * 32, "options": {},
           "client": "x", **values}
    )  # fmt: skip


def add_film(settings: Settings, store: JobStore, clip: Path) -> Any:
    job = add(store, options={"model": "bicubic"})
    (settings.jobs / job.id).mkdir()
    shutil.copyfile(clip, settings.jobs / job.id / "input.mp4")
    return job


def test_what_was_wished_of_a_job_outlives_its_worker(
    settings: Settings, store: JobStore, queues: dict[str, Queue], clip: Path
) -> None:
    job = add_film(settings, store, clip)
    assert store.claim(job.id, "dead")
    assert store.change_job(job.id, ["running"], wish="pause")
    service.find_lost(store, queues, "dead")
    worker = Worker(settings, "me", threading.Event())
    worker.work(job.id)
    assert store.job(job.id).state == "paused"  # type: ignore[union-attr]
    assert store.change_job(job.id, ["paused"], state="queued", wish="")  # as service.resume does
    worker.work(job.id)
    worker.store.close()
    assert store.job(job.id).state == "done"  # type: ignore[union-attr]


def test_a_job_cancelled_while_it_comes_to_a_pause_is_cancelled(
    settings: Settings, store: JobStore, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_film(settings, store, clip)
    store.change_job(job.id, ["queued"], wish="pause")
    end_process = worker_module._end_process

    def slowly(process: Any) -> None:
        assert store.change_job(job.id, ["running"], wish="cancel")  # as service.cancel does
        end_process(process)

    monkeypatch.setattr(worker_module, "_end_process", slowly)
    worker = Worker(settings, "me", threading.Event())
    worker.work(job.id)
    worker.store.close()
    found = store.job(job.id)
    assert found is not None
    assert (found.state, found.wish) == ("cancelled", "")
    assert {path.name for path in (settings.jobs / job.id).iterdir()} <= {"input.mp4", "lock"}


def test_of_many_workers_one_gets_the_job(store: JobStore) -> None:
    job = add(store)
    start = threading.Barrier(8)

    def claim(name: str) -> bool:
        start.wait()
        return store.claim(job.id, name) is not None

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(claim, [f"worker-{n}" for n in range(8)]))
    assert sum(got) == 1


def test_a_job_whose_lease_ran_out_is_found_and_its_old_worker_stands_back(
    store: JobStore, queues: dict[str, Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(store)
    assert store.claim(job.id, "one")
    assert service.find_lost(store, queues) == []
    later = time.time() + LEASE_SECONDS + 1
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        assert [one.id for one in service.find_lost(store, queues)] == [job.id]
    assert queues["films"].waiting() == {job.id}
    assert store.renew(job.id, "one") is None
    assert not store.change_mine(job.id, "one", state="done")
    assert store.claim(job.id, "two")
    assert store.job(job.id).worker == "two"  # type: ignore[union-attr]


def test_a_job_that_kills_its_workers_is_given_up(
    store: JobStore, queues: dict[str, Queue]
) -> None:
    job = add(store)
    for death in range(service.MOST_DEATHS):
        assert store.claim(job.id, f"worker-{death}")
        service.find_lost(store, queues, f"worker-{death}")
    found = store.job(job.id)
    assert found is not None
    assert (found.state, found.deaths) == ("failed", service.MOST_DEATHS)


def test_what_is_old_expires_with_its_files(settings: Settings, store: JobStore) -> None:
    kept = add(store, state="queued")
    ended = add(store, state="done", finished=time.time())
    upload = store.add_upload(name="a.mp4", suffix=".mp4", size=4, client="x")
    store.update_upload(upload.id, state="ready")
    unfinished = store.add_upload(name="b.mp4", suffix=".mp4", size=4, client="x")
    folders = [settings.jobs / job.id for job in (kept, ended)]
    for folder in folders:
        folder.mkdir()
        (folder / "film.mp4").write_text("x")
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


def test_a_full_disk_does_not_end_the_site(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: Counter[str] = Counter()
    enough = threading.Event()

    def failing(name: str, error: Exception) -> Callable[..., Any]:
        def fail(*arguments: Any) -> None:
            tries[name] += 1
            if min(tries["find"], tries["expire"]) >= 2:
                enough.set()
            raise error

        return fail

    full = sqlite3.OperationalError("database or disk is full")
    monkeypatch.setattr(service, "find_lost", failing("find", full))
    monkeypatch.setattr(service, "expire", failing("expire", OSError(errno.ENOSPC, "no space")))
    for name in ("LOOK_SECONDS", "FIND_SECONDS", "EXPIRE_SECONDS"):
        monkeypatch.setattr(serve_module, name, 0.01)
    here = serve_module._Site(settings, None)
    here._parts = []
    watching = threading.Thread(target=here._watch)
    watching.start()
    assert enough.wait(30)
    here._stopping.set()
    watching.join()
    here._store.close()


def test_a_thread_that_ends_lets_go_of_its_files(store: JobStore) -> None:
    def opened() -> int:
        return sum("site.sqlite3" in one.path for one in psutil.Process().open_files())

    store.revision()
    before = opened()
    for _ in range(5):
        thread = threading.Thread(target=store.revision)
        thread.start()
        thread.join()
    assert opened() <= before + 1  # SQLite keeps one to use again


def test_a_job_began_when_it_first_did(
    settings: Settings, store: JobStore, queues: dict[str, Queue]
) -> None:
    here: Any = SimpleNamespace(settings=settings, store=store, queues=queues)
    job = add(store)
    first = store.claim(job.id, "one")
    assert first is not None
    store.change_mine(job.id, "one", state="paused", worker=None, lease=None)
    service.resume(here, job.id)
    second = store.claim(job.id, "two")
    assert second is not None
    assert second.started == first.started
    store.change_mine(job.id, "two", state="failed", worker=None, lease=None)
    service.retry(here, job.id)
    third = store.claim(job.id, "three")
    assert third is not None
    assert third.started > first.started  # type: ignore[operator]


def test_a_queue_keeps_its_order_and_takes_nothing_unsigned(queues: dict[str, Queue]) -> None:
    queue = queues["films"]
    for name in ("a", "b"):
        queue.put(name)
    assert [task.args[0] for task in queue.huey.pending()] == ["a", "b"]
    queue.huey.storage.enqueue(b"cos\nsystem\n(S'true'\ntR.:" + b"0" * 40)
    assert queue.huey.dequeue().args[0] == "a"
    assert queue.huey.dequeue().args[0] == "b"
    with pytest.raises(ValueError, match="Signature"):
        queue.huey.dequeue()


def test_a_queue_elsewhere_needs_an_address_and_a_client(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="write redis://HOST"):
        Queue(replace(settings, queue="amqp://host"), "films")
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match="pip install redis"):
        Queue(replace(settings, queue="redis://host"), "films")


def test_films_go_to_the_cluster_by_one_setting() -> None:
    words = service.words_of({"model": "reel", "height": 720, "container": "mkv"}, "local")
    assert words == ["--model=reel", "--height=720", "--allow-audio-transcode", "--cluster=local"]


def test_a_listener_of_a_job_that_is_gone_is_told(store: JobStore) -> None:
    feed = Feed(store)
    job = add(store, state="deleted")
    kept = add(store)
    told = list(feed.follow(job.id))  # and it ends
    assert [[one.state for one in jobs] for jobs in told] == [["deleted"]]
    everyone = feed.follow()
    assert [one.id for one in next(everyone)] == [kept.id]
    feed.close()
    everyone.close()  # type: ignore[attr-defined]
