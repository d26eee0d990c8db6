"""The job queue: order, signatures and addresses."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from sharpreel.errors import UsageError
from sharpreel.web.jobs.queue import JobQueue
from sharpreel.web.settings import Settings


def test_a_queue_keeps_its_order_and_rejects_unsigned_entries(queues: dict[str, JobQueue]) -> None:
    queue = queues["videos"]
    for name in ("a", "b"):
        queue.put(name)
    assert [task.args[0] for task in queue.huey.pending()] == ["a", "b"]
    queue.huey.storage.enqueue(b"cos\nsystem\n(S'true'\ntR.:" + b"0" * 40)
    assert queue.huey.dequeue().args[0] == "a"
    assert queue.huey.dequeue().args[0] == "b"
    with pytest.raises(ValueError, match="Signature"):
        queue.huey.dequeue()


def test_a_queue_on_redis_needs_a_url_and_the_redis_client(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="write redis://HOST"):
        JobQueue(replace(settings, queue="amqp://host"), "videos")
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match="pip install redis"):
        JobQueue(replace(settings, queue="redis://host"), "videos")
