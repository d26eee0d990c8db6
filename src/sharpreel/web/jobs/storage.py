"""Is there room on the disk, and what gives way when there is not: what failed jobs had made."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from sharpreel.web import logs
from sharpreel.web.jobs.store import Job, JobStore
from sharpreel.web.settings import Settings

GIVES_WAY = ("failed", "cancelled")  # states of jobs whose work may go; their input stays

log_of = logging.getLogger("sharpreel.web.jobs.storage")


def folder_of(settings: Settings, job: Job) -> Path:
    return settings.jobs / job.id


def input_of(settings: Settings, job: Job) -> Path:
    return folder_of(settings, job) / f"input{job.suffix}"


def forget_work(settings: Settings, job: Job) -> bool:
    """Delete what a job has made so far, but its input; was there anything?"""
    work = [
        path
        for path in folder_of(settings, job).glob("*")
        if path != input_of(settings, job) and path.name != "lock"
    ]
    for path in work:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return bool(work)


def disk_used(settings: Settings) -> int:
    """Bytes of all uploads and results; a file with two names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for folder in (settings.uploads, settings.jobs):
        for path in folder.rglob("*"):
            with suppress(OSError):
                status = path.lstat()
                if not path.is_dir():
                    seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())


def make_room(settings: Settings, store: JobStore, more: int = 0) -> bool:
    """Is there room for so many bytes more, if need be in place of what failed jobs had made?"""
    jobs = iter(store.jobs(f"state IN {GIVES_WAY}"))
    while not _fits(settings, more):
        for job in jobs:
            if _give_way(settings, store, job):
                break
        else:
            return False
    return True


def _fits(settings: Settings, more: int) -> bool:
    limits = settings.limits
    if shutil.disk_usage(settings.data_dir).free - more < limits.spare_bytes:
        return False
    return limits.disk_bytes is None or disk_used(settings) + more <= limits.disk_bytes


def _give_way(settings: Settings, store: JobStore, job: Job) -> bool:
    with store.changing():  # nobody tries the job again meanwhile
        now = store.job(job.id)
        if now is None or now.state not in GIVES_WAY or not forget_work(settings, now):
            return False
    logs.say(log_of, "work gives way", job_id=job.id)
    return True
