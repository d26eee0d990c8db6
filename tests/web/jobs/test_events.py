"""The feed of job changes."""

from __future__ import annotations

from sharpreel.web.jobs.events import JobFeed
from sharpreel.web.jobs.store import JobStore
from tests.support.jobs import add_job


def test_a_subscriber_of_a_deleted_job_is_notified(store: JobStore) -> None:
    feed = JobFeed(store)
    job = add_job(store, state="deleted")
    kept = add_job(store)
    changes = list(feed.follow(job.id))  # and it ends
    assert [[one.state for one in jobs] for jobs in changes] == [["deleted"]]
    everyone = feed.follow()
    assert [one.id for one in next(everyone)] == [kept.id]
    feed.close()
    everyone.close()  # type: ignore[attr-defined]


def test_a_subscriber_gets_the_changes_of_a_job_until_it_ends(store: JobStore) -> None:
    feed = JobFeed(store)
    job = add_job(store)
    changes = feed.follow(job.id)
    assert [one.state for one in next(changes)] == ["queued"]
    add_job(store)  # another job is not reported
    store.change_job(job.id, ["queued"], state="done")
    assert [one.state for jobs in changes for one in jobs] == ["done"]
    feed.close()
