"""News of jobs for event streams: one thread looks into the table, however many listen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sharpreel.web.jobs.store import ENDED, Job, JobStore

LOOK_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 10.0
OVER = (*ENDED, "deleted")


class Feed:
    """Changed jobs, handed to every listener at most four times a second."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._latest = self._listeners = 0
        self._looking = self._closed = False

    def follow(self, job_id: str | None = None) -> Iterator[list[Job]]:
        """Jobs as they are, then those that changed; empty lists so that a lost client is noticed.

        Args:
            job_id: This job alone, until it has ended.
        """
        mine = "" if job_id is None else " AND id = ?"
        values = [] if job_id is None else [job_id]
        seen = -1  # the first look tells of all that are
        with self._listening():
            while not self._closed:
                latest = self._store.revision()
                new = f"revision > {seen}"
                if seen < 0 and job_id is None:  # of one job it is told that it is gone
                    new = "state != 'deleted'"
                jobs = self._store.jobs(new + mine, *values)
                seen = latest
                yield jobs
                if job_id is not None and any(job.state in OVER for job in jobs):
                    return
                with self._changed:
                    self._changed.wait_for(self._news_after(seen), timeout=KEEP_ALIVE_SECONDS)

    def close(self) -> None:
        """End all streams."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _news_after(self, seen: int) -> Callable[[], bool]:
        return lambda: self._closed or self._latest > seen

    @contextmanager
    def _listening(self) -> Iterator[None]:
        with self._changed:
            self._listeners += 1
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._listeners -= 1

    def _look(self) -> None:
        while True:
            latest = self._store.revision()
            with self._changed:
                if self._closed or self._listeners == 0:
                    self._looking = False
                    return
                if latest != self._latest:
                    self._latest = latest
                    self._changed.notify_all()
            time.sleep(LOOK_SECONDS)
