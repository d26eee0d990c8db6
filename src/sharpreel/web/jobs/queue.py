"""What wakes a worker: Huey on SQLite, or on Redis where that is outgrown.

The queue holds ids of jobs and is never the truth: a job that was lost with a worker, or stands in
it twice, is found by the table (`Store.claim`, `Store.release_lost`). Entries are signed, so who
writes to the queue from elsewhere runs nothing here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import huey
from huey.serializer import SignedSerializer

from sharpreel.errors import UsageError
from sharpreel.web.settings import Settings

LANES = {"upscale": "films", "sample": "samples"}  # kind of job -> lane
TASK = "sharpreel-job"


def lanes() -> Iterable[str]:
    """The queues of a site, each with workers of its own: a sample does not wait for a film."""
    return LANES.values()


class Queue:
    """The ids of jobs that wait in one lane.

    Args:
        work: Called with an id by the consumer; None in processes that only put.

    Raises:
        UsageError: `settings.queue` names no queue we know, or its client is not installed.
    """

    def __init__(
        self, settings: Settings, lane: str, work: Callable[[str], None] | None = None
    ) -> None:
        self.lane = lane
        self.huey = _open(settings, f"sharpreel-{lane}")

        def run(job_id: str) -> None:
            assert work is not None
            work(job_id)

        self._task = self.huey.task(name=TASK)(run)

    def put(self, job_id: str) -> None:
        """Wake a worker for this job."""
        self._task(job_id)

    def close(self) -> None:
        """Let go of the queue's file, as far as this thread has it."""
        self.huey.storage.close()

    def waiting(self) -> set[str]:
        """Ids in the queue."""
        return {str(task.args[0]) for task in self.huey.pending()}


def _open(settings: Settings, name: str) -> Any:
    serializer = SignedSerializer(secret=settings.secret(), salt=name)
    if settings.queue is None:
        return huey.SqliteHuey(
            name, filename=str(settings.data_dir / "queue.sqlite3"), results=False,
            serializer=serializer, timeout=30, strict_fifo=True,
        )  # fmt: skip
    if not settings.queue.startswith(("redis://", "rediss://")):
        raise UsageError(f"--queue {settings.queue}: write redis://HOST[:PORT][/NUMBER].")
    try:
        importlib.import_module("redis")
    except ImportError as e:
        raise UsageError("--queue redis://... needs its client: pip install redis.") from e
    return huey.RedisHuey(name, url=settings.queue, results=False, serializer=serializer)
