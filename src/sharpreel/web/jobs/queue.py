"""Job queue that wakes the workers: Huey on SQLite, or on Redis for large sites.

The queue holds job ids only; the database is authoritative. A job that was lost with a worker, or
was queued twice, is detected there (`JobStore.claim`, `JobStore.requeue_lost`). Entries are signed,
so that foreign writes to the queue cannot run code here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import huey
from huey.serializer import SignedSerializer

from sharpreel.errors import UsageError
from sharpreel.web.settings import Settings

# Kind of job -> lane. Each lane has its own workers, so that samples do not wait for videos.
LANES = {"upscale": "videos", "sample": "samples"}
TASK = "sharpreel-job"


class JobQueue:
    """The ids of the jobs that wait in one lane.

    Args:
        work: Called with a job id by the consumer; None in processes that only add jobs.

    Raises:
        UsageError: `settings.queue` is not a supported URL, or its client is not installed.
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
        """Add a job, which wakes a worker."""
        self._task(job_id)

    def close(self) -> None:
        """Close the queue's file in this thread."""
        self.huey.storage.close()

    def waiting(self) -> set[str]:
        """Job ids in the queue."""
        return {str(task.args[0]) for task in self.huey.pending()}


def _open(settings: Settings, name: str) -> Any:
    serializer = SignedSerializer(secret=settings.secret(), salt=name)
    if settings.queue is None:
        return huey.SqliteHuey(
            name,
            filename=str(settings.queue_database),
            results=False,
            serializer=serializer,
            timeout=30,
            strict_fifo=True,
        )
    if not settings.queue.startswith(("redis://", "rediss://")):
        raise UsageError(f"queue={settings.queue}: write redis://HOST[:PORT][/NUMBER].")
    try:
        importlib.import_module("redis")
    except ImportError as e:
        raise UsageError(
            f"queue={settings.queue}: this needs the Redis client: pip install redis."
        ) from e
    return huey.RedisHuey(name, url=settings.queue, results=False, serializer=serializer)
