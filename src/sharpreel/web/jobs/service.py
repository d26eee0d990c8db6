"""A job's life: made, paused, resumed, cancelled, tried again, deleted, expired, found again.

Everything of a job lies in `jobs/ID/`: `input` (another name of the upload's file, so that the
upload may go), what is being made with its journal, and what the page plays.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from sharpreel.errors import did_you_mean
from sharpreel.models import DEFAULT_MODEL, MODELS
from sharpreel.models.weights import available_scales
from sharpreel.ops import enlarged
from sharpreel.web import logs
from sharpreel.web.context import Site
from sharpreel.web.http.errors import Problem, not_found
from sharpreel.web.jobs import storage, uploads
from sharpreel.web.jobs.queue import LANES, Queue
from sharpreel.web.jobs.store import ACTIVE, ENDED, Job, JobStore, Upload
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings

PLAN_SECONDS = 300.0
MOST_DEATHS = 3  # workers that may die over one job
TOLD_SECONDS = 60.0  # that a deleted job stays in the table, for those who listen

log_of = logging.getLogger("sharpreel.web.jobs.service")


def networks() -> list[dict[str, Any]]:
    """The networks that run here without a download, as the API lists them."""
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


def check_network(name: str, scale: float | None) -> None:
    """Refuse a network that is not one of ours: its name must never be taken for a path.

    Raises:
        Problem: There is no such network, or not of this factor.
    """
    known = {model["name"]: model["scales"] for model in networks()}
    if name not in known:
        words = f"{name}: no such network here.{did_you_mean(name, known)}"
        raise Problem(422, "unknown_model", words)
    if scale is not None and scale not in known[name]:
        has = ", ".join(f"{one}x" for one in known[name])
        raise Problem(422, "unknown_scale", f"{name} has {has}, not {scale:g}x.")


def words_of(options: Mapping[str, Any], cluster: str | None = None) -> list[str]:
    """Options of the API as those of `sharpreel upscale`; each is one word."""
    names = ("model", "scale", "height", "codec", "crf", "preset")
    words = [f"--{name}={options[name]}" for name in names if options.get(name) is not None]
    if options.get("container"):
        words.append("--allow-audio-transcode")
    return [*words, *([] if cluster is None else [f"--cluster={cluster}"])]


def plan(here: Site, upload: Upload, options: Mapping[str, Any], client: str, trial: bool) -> Any:
    """The `plan` event of `sharpreel plan`, made by a child; with `trial` it is timed, too.

    A timed one ends as soon as the client asks for another plan of this upload: people try options.

    Raises:
        Problem: What is asked for cannot be made of this upload, or would be too large.
    """
    check_network(options.get("model") or DEFAULT_MODEL, options.get("scale"))
    _check_result(here.settings, upload, options)
    source, limits = uploads.path_of(here.settings, upload), here.settings.limits
    words = ["plan", source, "--json", *words_of(options), *([] if trial else ["--no-trial"])]
    if options.get("container"):
        words += ["-o", here.settings.jobs / f"plan-{upload.id}.{options['container']}"]
    key = f"{client} {upload.id}"
    with here.planning.going_on(key) if trial else nullcontext() as stop:
        if not trial:
            here.planning.end(key)
        with uploads.turn(here, client, here.plans, stop):
            bounds = process.ResourceLimits(limits.job_bytes)
            ended = process.run("sharpreel", words, bounds, PLAN_SECONDS, stop)
        if stop is not None and stop.is_set():
            raise uploads.superseded()
    said = {event["event"]: event for event in events(ended.stdout)}
    if "plan" in said:
        return said["plan"]
    if "skipped" in said:
        raise Problem(422, "nothing_to_do", f"Nothing to do: {said['skipped']['reason']}.")
    if "error" in said:
        raise Problem(422, "impossible", without_paths(said["error"]["message"], source, upload))
    logs.say(log_of, "plan failed", upload=upload.id, code=ended.code, said=ended.stderr[-500:])
    raise Problem(422, "broken", "The plan took too long, or the file broke the decoder.")


def events(text: str) -> list[dict[str, Any]]:
    """The objects of --json output; a line that was cut off is none."""
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                found.append(event)
    return found


def without_paths(message: str, source: Path, what: Upload | Job) -> str:
    """An error for the user, without where files lie here."""
    return message.replace(str(source), what.name).replace(f"{source.parent}{os.sep}", "")


def _check_result(settings: Settings, upload: Upload, options: Mapping[str, Any]) -> None:
    """Refuse what would unpack to more than anyone wants to wait for.

    Raises:
        Problem: It would.
    """
    info = upload.info or {}
    width, height = info["width"], info["height"]
    factor = options.get("scale") or 2
    if options.get("height"):
        factor = max(options["height"] / height, 1)
    frames = info["frames"] or (info["seconds"] or 0) * info["fps"]
    pixels = enlarged(width, factor) * enlarged(height, factor) * frames
    if pixels > settings.limits.result_pixels:
        words = (
            f"{frames:.0f} frames of {enlarged(width, factor)}x{enlarged(height, factor)} are more "
            "than is made here; choose a smaller scale or height, or a shorter video."
        )
        raise Problem(422, "too_many_pixels", words)


def create(here: Site, upload: Upload, kind: str, options: dict[str, Any], client: str) -> Job:
    """Put a job in the queue.

    Raises:
        Problem: The client has as many as it may, or there is no room.
    """
    mine = here.store.jobs("client = ? AND state IN ('queued', 'running', 'paused')", client)
    if len(mine) >= here.settings.limits.jobs_per_client:
        words = f"You have {len(mine)} jobs that wait or run; cancel one, or wait."
        raise Problem(429, "too_many", words)
    uploads.check_room(here, 0)
    job = here.store.add_job(
        kind=kind, name=upload.name, suffix=upload.suffix, upload=upload.id, options=options,
        client=client, state="paused",
    )  # fmt: skip
    storage.folder_of(here.settings, job).mkdir(mode=0o700)
    source = uploads.path_of(here.settings, upload)
    try:
        os.link(source, storage.input_of(here.settings, job))
    except OSError:  # a file system without links
        shutil.copy2(source, storage.input_of(here.settings, job))
    here.store.change_job(job.id, ["paused"], state="queued")
    _wake(here, job)
    logs.say(log_of, "job made", job_id=job.id, kind=kind, options=options)
    return find(here, job.id)


def _wake(here: Site, job: Job) -> None:
    here.queues[LANES[job.kind]].put(job.id)


def find(here: Site, job_id: str) -> Job:
    """A job by its id.

    Raises:
        Problem: There is none.
    """
    found = here.store.job(job_id)
    if found is None or found.state == "deleted":
        raise not_found("job")
    return found


def cancel(here: Site, job_id: str) -> Job:
    """Stop a job and forget what it made.

    Raises:
        Problem: It has ended.
    """
    job = find(here, job_id)
    if here.store.change_job(job.id, ["queued", "paused"], state="cancelled", finished=time.time()):
        storage.forget_work(here.settings, job)
    elif not here.store.change_job(job.id, ["running"], wish="cancel"):
        raise _not_now(find(here, job_id), "cancelled")
    return find(here, job_id)


def pause(here: Site, job_id: str) -> Job:
    """Stop a job and keep what it finished.

    Raises:
        Problem: It neither waits nor runs.
    """
    job = find(here, job_id)
    waits = here.store.change_job(job.id, ["queued"], state="paused")
    if not waits and not here.store.change_job(job.id, ["running"], wish="pause"):
        raise _not_now(find(here, job_id), "paused")
    return find(here, job_id)


def resume(here: Site, job_id: str) -> Job:
    """Let a paused job go on.

    Raises:
        Problem: It is not paused.
    """
    job = find(here, job_id)
    if not here.store.change_job(job.id, ["paused"], state="queued", wish=""):
        raise _not_now(find(here, job_id), "resumed")
    _wake(here, job)
    return find(here, job_id)


def retry(here: Site, job_id: str) -> Job:
    """Try a job again that failed, from its journal, or was cancelled.

    Raises:
        Problem: It did neither.
    """
    job = find(here, job_id)
    anew = {
        "state": "queued", "error": None, "deaths": 0, "started": None, "finished": None,
        "wish": "",
    }  # fmt: skip
    if not here.store.change_job(job.id, ["failed", "cancelled"], **anew):
        raise _not_now(find(here, job_id), "tried again")
    _wake(here, job)
    return find(here, job_id)


def delete(here: Site, job_id: str) -> None:
    """Delete a job with all its files; one that runs is stopped by its worker, which sees this."""
    job = find(here, job_id)
    here.store.change_job(job.id, [*ACTIVE, *ENDED], state="deleted", finished=time.time())
    if job.state != "running":
        shutil.rmtree(storage.folder_of(here.settings, job), ignore_errors=True)


def _not_now(job: Job, what: str) -> Problem:
    return Problem(409, "wrong_state", f"The job is {job.state}; it cannot be {what}.")


def find_lost(store: JobStore, queues: Mapping[str, Queue], dead: str | None = None) -> list[Job]:
    """Put jobs back whose worker died, and wake a worker for what waits in no queue.

    Args:
        dead: The name of a worker that is known to be; its leases end at once.

    Returns:
        The jobs whose worker died.
    """
    lost = store.release_lost(dead)
    for job in lost:
        logs.say(log_of, "worker lost", level=logging.WARNING, job_id=job.id, deaths=job.deaths)
        if job.deaths >= MOST_DEATHS:
            words = f"Its worker died {job.deaths} times; the video may be damaged."
            store.change_job(job.id, ["queued"], state="failed", error=words, finished=time.time())
    waiting = {lane: queue.waiting() for lane, queue in queues.items()}
    for job in store.jobs("state = 'queued'"):
        lane = LANES[job.kind]
        if job.id not in waiting[lane]:
            queues[lane].put(job.id)
    return lost


def expire(settings: Settings, store: JobStore, now: float | None = None) -> int:
    """Delete what is too old; how many jobs and uploads went."""
    now = time.time() if now is None else now
    old = now - 3600 * settings.limits.keep_hours
    stale = now - 3600 * settings.limits.unfinished_hours
    gone = 0
    idle = "state NOT IN ('queued', 'running', 'deleted') AND touched < ?"
    for job in store.jobs(idle, old):
        if store.change_job(job.id, [*ENDED, "paused"], state="deleted", finished=now):
            logs.say(log_of, "job expired", job_id=job.id)
            gone += 1
    for job in store.jobs("state = 'deleted'"):
        shutil.rmtree(storage.folder_of(settings, job), ignore_errors=True)
        if (job.finished or 0) < now - TOLD_SECONDS:
            store.remove_job(job.id)
    for upload in store.uploads(
        "(state = 'ready' AND touched < ?) OR (state != 'ready' AND touched < ?)", old, stale
    ):
        uploads.path_of(settings, upload).unlink(missing_ok=True)
        store.remove_upload(upload.id)
        gone += 1
    for path in settings.jobs.iterdir():  # what a crash between two steps left behind
        if store.job(path.name) is None and path.stat().st_mtime < stale:
            shutil.rmtree(path, ignore_errors=True)
    return gone
