"""The database: claims, leases and connections of many threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from sharpreel.web.jobs.store import JobStore
from tests.support.jobs import add_job


def test_only_one_of_many_workers_claims_a_job(store: JobStore) -> None:
    job = add_job(store)
    start = threading.Barrier(8)

    def claim(name: str) -> bool:
        start.wait()
        return store.claim(job.id, name) is not None

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(claim, [f"worker-{n}" for n in range(8)]))
    assert sum(got) == 1


def test_a_thread_that_ends_closes_its_connection(store: JobStore) -> None:
    def opened() -> int:
        return sum("site.sqlite3" in one.path for one in psutil.Process().open_files())

    store.revision()
    before = opened()
    for _ in range(5):
        thread = threading.Thread(target=store.revision)
        thread.start()
        thread.join()
    assert opened() <= before + 1  # SQLite keeps one to use again


def test_jobs_are_selected_by_state_and_client(store: JobStore) -> None:
    queued = add_job(store)
    done = add_job(store, state="done", client="y")
    deleted = add_job(store, state="deleted")
    assert [job.id for job in store.jobs()] == [queued.id, done.id]
    assert [job.id for job in store.jobs(states=["deleted"])] == [deleted.id]
    assert [job.id for job in store.jobs(client="y")] == [done.id]
    assert store.jobs(states=["queued"], client="y") == []


def test_changed_jobs_include_deleted_ones(store: JobStore) -> None:
    first, second = add_job(store), add_job(store)
    before = store.revision()
    assert store.change_job(second.id, ["queued"], state="deleted")
    assert [job.id for job in store.jobs_changed_since(before)] == [second.id]
    assert store.jobs_changed_since(before, first.id) == []
    assert not store.change_job(second.id, ["queued"], state="running")


def test_idle_jobs_are_neither_queued_nor_running(store: JobStore) -> None:
    states = ("queued", "running", "paused", "done", "failed", "cancelled", "deleted")
    jobs = {state: add_job(store, state=state).id for state in states}
    idle = {job.id for job in store.idle_jobs(time.time() + 1)}
    assert idle == {jobs[state] for state in ("paused", "done", "failed", "cancelled")}
    assert store.idle_jobs(time.time() - 60) == []


def test_uploads_expire_by_their_state(store: JobStore) -> None:
    ready = store.add_upload(name="a", suffix="", size=1, client="x", state="ready")
    begun = store.add_upload(name="b", suffix="", size=1, client="y")
    later = time.time() + 1
    assert [u.id for u in store.unfinished_uploads("y")] == [begun.id]
    assert store.unfinished_uploads("x") == []
    assert [u.id for u in store.expired_uploads(later, 0)] == [ready.id]
    assert [u.id for u in store.expired_uploads(0, later)] == [begun.id]
    store.update_upload(begun.id, state="refused")
    assert [u.id for u in store.uploads()] == [ready.id]


def test_only_a_requested_cancellation_cancels_a_paused_job(store: JobStore) -> None:
    job = add_job(store, state="paused")
    assert not store.cancel_if_requested(job.id)
    store.change_job(job.id, ["paused"], requested_state="cancelled")
    assert store.cancel_if_requested(job.id)
    assert store.jobs(states=["cancelled"])[0].requested_state == ""
