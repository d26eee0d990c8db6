"""Life cycle of jobs: create, pause, resume, cancel, retry, delete, expire, recover after a crash.

All files of a job are in `jobs/ID/`, see `storage.py`. Its input is another name of the upload's
file, so that the upload can be deleted.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sharpreel.errors import did_you_mean
from sharpreel.models import DEFAULT_MODEL, MODELS
from sharpreel.models.weights import available_scales
from sharpreel.ops import enlarged
from sharpreel.pipeline.events import Event, PlanEvent, parse_events
from sharpreel.web import logs
from sharpreel.web.context import SiteContext
from sharpreel.web.http.errors import ApiError, not_found
from sharpreel.web.jobs import storage, uploads
from sharpreel.web.jobs.messages import without_paths
from sharpreel.web.jobs.queue import LANES, JobQueue
from sharpreel.web.jobs.store import ACTIVE, ENDED, Job, JobStore, Upload
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings

PLAN_SECONDS = 300.0
MAX_CRASHES = 3  # a job is given up when this many workers died while they ran it
DELETED_SECONDS = 60.0  # a deleted job stays in the database, so that event streams report it

log = logging.getLogger(__name__)


def models() -> list[dict[str, Any]]:
    """The models that run here without a download, as in the API."""
    return [
        {
            "name": name,
            "scales": list(available_scales(name)),
            "licence": spec.licence,
            "note": spec.summary,
            "default": name == DEFAULT_MODEL,
        }
        for name, spec in MODELS.items()
        if spec.bundled
    ]


def validate_model(name: str, scale: float | None) -> None:
    """Accept bundled models only: a model's name must never be interpreted as a path.

    Raises:
        ApiError: There is no such model, or not at this scale.
    """
    known = {model["name"]: model["scales"] for model in models()}
    if name not in known:
        message = f"{name}: no such model on this site.{did_you_mean(name, known)}"
        raise ApiError(422, "unknown_model", message)
    if scale is not None and scale not in known[name]:
        scales = ", ".join(f"{one}x" for one in known[name])
        raise ApiError(422, "unknown_scale", f"{name} supports {scales}, not {scale:g}x.")


def cli_options(options: Mapping[str, Any], cluster: str | None = None) -> list[str]:
    """Options of the API as options of `sharpreel upscale`, one argument each."""
    names = ("model", "scale", "height", "codec", "crf", "preset")
    arguments = [f"--{name}={options[name]}" for name in names if options.get(name) is not None]
    if options.get("container"):
        arguments.append("--allow-audio-transcode")
    return [*arguments, *([] if cluster is None else [f"--cluster={cluster}"])]


def plan(
    site: SiteContext, upload: Upload, options: Mapping[str, Any], client: str, estimate: bool
) -> PlanEvent:
    """The plan of a job, computed by `sharpreel plan` in a child process.

    Args:
        estimate: Time the first seconds, too. Such a plan ends early when the client requests
            another plan of this upload: people try options.

    Raises:
        ApiError: The options cannot be met for this upload, or the result would be too large.
    """
    validate_model(options.get("model") or DEFAULT_MODEL, options.get("scale"))
    _validate_result_size(site.settings, upload, options)
    source = uploads.path_of(site.settings, upload)
    arguments = ["plan", source, "--json", *cli_options(options)]
    if not estimate:
        arguments.append("--no-trial")
    if options.get("container"):
        arguments += ["-o", site.settings.jobs / f"plan-{upload.id}.{options['container']}"]
    key = f"{client} {upload.id}"
    with site.plans.newest(key) if estimate else nullcontext() as stop:
        if not estimate:
            site.plans.end(key)
        with uploads.child_slot(site, client, site.plan_slots, stop):
            limits = process.ResourceLimits(site.settings.limits.job_bytes)
            ended = process.run("sharpreel", arguments, limits, PLAN_SECONDS, stop)
        if stop is not None and stop.is_set():
            raise uploads.superseded()
    return _planned(ended, upload, source)


def _planned(ended: process.ProcessResult, upload: Upload, source: Path) -> PlanEvent:
    """The plan printed by a child process, or the ApiError that it stands for."""
    events: dict[str, Event] = {event["event"]: event for event in parse_events(ended.stdout)}
    for event in (events.get(name) for name in ("plan", "skipped", "error")):
        if event is None:
            continue
        if event["event"] == "plan":
            return event
        if event["event"] == "skipped":
            raise ApiError(422, "nothing_to_do", f"Nothing to do: {event['reason']}.")
        if event["event"] == "error":
            message = without_paths(event["message"], source, upload.name)
            raise ApiError(422, "impossible", message)
    logs.log_event(
        log, "plan failed", upload=upload.id, code=ended.exit_code, stderr=ended.stderr[-500:]
    )
    raise ApiError(422, "broken", "Planning timed out or the decoder crashed.")


def _validate_result_size(settings: Settings, upload: Upload, options: Mapping[str, Any]) -> None:
    """Raise ApiError if the result would have more pixels than the site's limit."""
    info = upload.info or {}
    width, height = info["width"], info["height"]
    scale = options.get("scale") or 2
    if options.get("height"):
        scale = max(options["height"] / height, 1)
    frames = info["frames"] or (info["seconds"] or 0) * info["fps"]
    pixels = enlarged(width, scale) * enlarged(height, scale) * frames
    if pixels > settings.limits.result_pixels:
        message = (
            f"{frames:.0f} frames of {enlarged(width, scale)}x{enlarged(height, scale)} exceed "
            "the limit of this site; choose a smaller scale or height, or a shorter video."
        )
        raise ApiError(422, "too_many_pixels", message)


def create(
    site: SiteContext, upload: Upload, kind: str, options: dict[str, Any], client: str
) -> Job:
    """Create a job and queue it.

    Raises:
        ApiError: The client has too many jobs, or there is no disk space.
    """
    active = site.store.jobs(states=ACTIVE, client=client)
    if len(active) >= site.settings.limits.jobs_per_client:
        message = f"You have {len(active)} unfinished jobs; cancel one, or wait."
        raise ApiError(429, "too_many", message)
    uploads.ensure_room(site, 0)
    job = site.store.add_job(
        kind=kind,
        name=upload.name,
        suffix=upload.suffix,
        upload=upload.id,
        options=options,
        client=client,
        state="paused",
    )
    site.settings.job_folder(job.id).mkdir(mode=0o700)
    source = uploads.path_of(site.settings, upload)
    try:
        os.link(source, storage.input_of(site.settings, job))
    except OSError:  # a file system without links
        shutil.copy2(source, storage.input_of(site.settings, job))
    site.store.change_job(job.id, ["paused"], state="queued")
    _wake_worker(site, job)
    logs.log_event(log, "job created", job_id=job.id, kind=kind, options=options)
    return find(site, job.id)


def _wake_worker(site: SiteContext, job: Job) -> None:
    site.queues[LANES[job.kind]].put(job.id)


def find(site: SiteContext, job_id: str) -> Job:
    """A job by its id.

    Raises:
        ApiError: There is none.
    """
    job = site.store.job(job_id)
    if job is None or job.state == "deleted":
        raise not_found("job")
    return job


def cancel(site: SiteContext, job_id: str) -> Job:
    """Stop a job and discard its work.

    Raises:
        ApiError: It has ended.
    """
    job = find(site, job_id)
    waiting = ["queued", "paused"]
    if site.store.change_job(job.id, waiting, state="cancelled", finished=time.time()):
        storage.delete_work(site.settings, job)
    elif not site.store.change_job(job.id, ["running"], requested_state="cancelled"):
        raise _wrong_state(find(site, job_id), "cancelled")
    return find(site, job_id)


def pause(site: SiteContext, job_id: str) -> Job:
    """Stop a job and keep its finished work.

    Raises:
        ApiError: It is neither queued nor running.
    """
    job = find(site, job_id)
    paused = site.store.change_job(job.id, ["queued"], state="paused")
    if not paused and not site.store.change_job(job.id, ["running"], requested_state="paused"):
        raise _wrong_state(find(site, job_id), "paused")
    return find(site, job_id)


def resume(site: SiteContext, job_id: str) -> Job:
    """Queue a paused job again.

    Raises:
        ApiError: It is not paused.
    """
    job = find(site, job_id)
    if not site.store.change_job(job.id, ["paused"], state="queued", requested_state=""):
        raise _wrong_state(find(site, job_id), "resumed")
    _wake_worker(site, job)
    return find(site, job_id)


def retry(site: SiteContext, job_id: str) -> Job:
    """Retry a failed job, which resumes from its journal, or a cancelled one from scratch.

    Raises:
        ApiError: It neither failed nor was it cancelled.
    """
    job = find(site, job_id)
    changed = site.store.change_job(
        job.id,
        ["failed", "cancelled"],
        state="queued",
        error=None,
        crash_count=0,
        started=None,
        finished=None,
        requested_state="",
    )
    if not changed:
        raise _wrong_state(find(site, job_id), "retried")
    _wake_worker(site, job)
    return find(site, job_id)


def delete(site: SiteContext, job_id: str) -> None:
    """Delete a job with all its files; a running one is stopped by its worker, which sees this."""
    job = find(site, job_id)
    site.store.change_job(job.id, [*ACTIVE, *ENDED], state="deleted", finished=time.time())
    if job.state != "running":
        shutil.rmtree(site.settings.job_folder(job.id), ignore_errors=True)


def _wrong_state(job: Job, action: str) -> ApiError:
    return ApiError(409, "wrong_state", f"The job is {job.state}; it cannot be {action}.")


def recover_lost(
    store: JobStore, queues: Mapping[str, JobQueue], dead_worker: str | None = None
) -> list[Job]:
    """Requeue jobs whose worker died, and wake workers for queued jobs that are in no queue.

    Args:
        dead_worker: Name of a worker known to have died; its leases end at once.

    Returns:
        The jobs whose worker died.
    """
    lost = store.requeue_lost(dead_worker)
    for job in lost:
        logs.log_event(
            log, "worker lost", logging.WARNING, job_id=job.id, crash_count=job.crash_count
        )
        if job.crash_count >= MAX_CRASHES:
            error = f"Its worker crashed {job.crash_count} times; the video may be damaged."
            store.change_job(job.id, ["queued"], state="failed", error=error, finished=time.time())
    waiting = {lane: queue.waiting() for lane, queue in queues.items()}
    for job in store.jobs(states=["queued"]):
        lane = LANES[job.kind]
        if job.id not in waiting[lane]:
            queues[lane].put(job.id)
    return lost


def expire(settings: Settings, store: JobStore, now: float | None = None) -> int:
    """Delete what has expired; returns the number of deleted jobs and uploads.

    Args:
        now: Current time in seconds since 1970, by default the clock's.
    """
    now = time.time() if now is None else now
    keep_until = now - 3600 * settings.limits.keep_hours
    unfinished_until = now - 3600 * settings.limits.unfinished_hours
    count = _expire_jobs(settings, store, now, keep_until)
    for upload in store.expired_uploads(keep_until, unfinished_until):
        uploads.path_of(settings, upload).unlink(missing_ok=True)
        store.remove_upload(upload.id)
        count += 1
    for path in settings.jobs.iterdir():  # left behind by a crash between two steps
        if store.job(path.name) is None and path.stat().st_mtime < unfinished_until:
            shutil.rmtree(path, ignore_errors=True)
    return count


def _expire_jobs(settings: Settings, store: JobStore, now: float, idle_since: float) -> int:
    """Delete jobs idle since this time, and forget those deleted a while ago."""
    count = 0
    for job in store.idle_jobs(idle_since):
        if store.change_job(job.id, [*ENDED, "paused"], state="deleted", finished=now):
            logs.log_event(log, "job expired", job_id=job.id)
            count += 1
    for job in store.jobs(states=["deleted"]):
        shutil.rmtree(settings.job_folder(job.id), ignore_errors=True)
        if (job.finished or 0) < now - DELETED_SECONDS:
            store.remove_job(job.id)
    return count
