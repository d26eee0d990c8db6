"""Rows of jobs in the site's database."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sharpreel.web.jobs.store import Job, JobStore
from sharpreel.web.settings import Settings


def add_job(store: JobStore, **values: Any) -> Job:
    """A queued job with these columns."""
    defaults = {
        "kind": "upscale",
        "name": "a",
        "suffix": ".mp4",
        "upload": "0" * 32,
        "options": {},
        "client": "x",
    }
    return store.add_job(**{**defaults, **values})


def add_video_job(settings: Settings, store: JobStore, clip: Path, **values: Any) -> Job:
    """A queued job with its input on disk."""
    values.setdefault("options", {"model": "bicubic"})
    job = add_job(store, suffix=clip.suffix, **values)
    settings.job_folder(job.id).mkdir()
    shutil.copyfile(clip, settings.job_input(job.id, job.suffix))
    return job
