"""Job change feed for server-sent events: one poller thread, many subscribers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sharpreel.web.jobs.store import ENDED, Job, JobStore

POLL_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 10.0
FINAL_STATES = (*ENDED, "deleted")


class JobFeed:
    """Changed jobs for every subscriber, at most four times per second."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._latest = self._subscribers = 0
        self._polling = self._closed = False

    def follow(self, job_id: str | None = None) -> Iterator[list[Job]]:
        """The current jobs, then lists of changed jobs.

        Lists are empty if nothing changes for a while, so that a lost client is noticed.

        Args:
            job_id: Follow this job only, until it has ended.
        """
        seen = -1  # the first list holds all jobs
        with self._subscription():
            while not self._closed:
                latest = self._store.revision()
                if seen < 0 and job_id is None:
                    jobs = self._store.jobs()
                else:  # a deleted job is reported as such
                    jobs = self._store.jobs_changed_since(seen, job_id)
                seen = latest
                yield jobs
                if job_id is not None and any(job.state in FINAL_STATES for job in jobs):
                    return
                with self._changed:
                    self._changed.wait_for(self._has_changes(seen), timeout=KEEP_ALIVE_SECONDS)

    def close(self) -> None:
        """End all subscriptions."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_changes(self, seen: int) -> Callable[[], bool]:
        return lambda: self._closed or self._latest > seen

    @contextmanager
    def _subscription(self) -> Iterator[None]:
        with self._changed:
            self._subscribers += 1
            if not self._polling:
                self._polling = True
                threading.Thread(target=self._poll, daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._subscribers -= 1

    def _poll(self) -> None:
        while True:
            latest = self._store.revision()
            with self._changed:
                if self._closed or self._subscribers == 0:
                    self._polling = False
                    return
                if latest != self._latest:
                    self._latest = latest
                    self._changed.notify_all()
            time.sleep(POLL_SECONDS)
