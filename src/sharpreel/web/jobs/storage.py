"""Disk quota and files of jobs: free space by evicting partial results of failed jobs.

jobs/ID/   input.mp4               another name of the upload's file
           output/                 the result, and the run folder while it is made
           before.jpg  after.jpg   the newest frame of a running job
           play-before.mp4  ...    what the page plays
           lock                    held by the job's child process
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from sharpreel.web import logs
from sharpreel.web.jobs.store import Job, JobStore
from sharpreel.web.settings import Settings

EVICTABLE = ("failed", "cancelled")  # states of jobs whose files may be removed, except the input
PLAYABLE_SUFFIXES = (".mp4", ".webm")

log = logging.getLogger(__name__)


def input_of(settings: Settings, job: Job) -> Path:
    return settings.job_input(job.id, job.suffix)


def lock_of(settings: Settings, job: Job) -> Path:
    return settings.job_folder(job.id) / "lock"


def playable_file(folder: Path, stem: str) -> Path | None:
    """The existing playable file of this name in a job's folder."""
    candidates = (folder / f"{stem}{suffix}" for suffix in PLAYABLE_SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def delete_work(settings: Settings, job: Job) -> bool:
    """Delete all files of a job except its input; were there any?"""
    kept = (input_of(settings, job), lock_of(settings, job))
    work = [path for path in settings.job_folder(job.id).glob("*") if path not in kept]
    for path in work:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return bool(work)


def disk_used(settings: Settings) -> int:
    """Bytes of all uploads and results; a file with two names counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for folder in (settings.uploads, settings.jobs):
        for path in folder.rglob("*"):
            with suppress(OSError):
                status = path.lstat()
                if not path.is_dir():
                    sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def make_room(settings: Settings, store: JobStore, needed_bytes: int = 0) -> bool:
    """Make room for more bytes, evicting work of failed jobs if necessary; is there enough?"""
    jobs = iter(store.jobs(states=EVICTABLE))
    while not _fits(settings, needed_bytes):
        if not any(_evict(settings, store, job) for job in jobs):
            return False
    return True


def _fits(settings: Settings, needed_bytes: int) -> bool:
    limits = settings.limits
    if shutil.disk_usage(settings.data_dir).free - needed_bytes < limits.spare_bytes:
        return False
    return limits.disk_bytes is None or disk_used(settings) + needed_bytes <= limits.disk_bytes


def _evict(settings: Settings, store: JobStore, job: Job) -> bool:
    """Delete the work of a failed job, unless it was retried meanwhile; was there any?"""
    with store.transaction():  # nobody retries the job meanwhile
        now = store.job(job.id)
        if now is None or now.state not in EVICTABLE or not delete_work(settings, now):
            return False
    logs.log_event(log, "work evicted", job_id=job.id)
    return True
