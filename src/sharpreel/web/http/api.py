"""The REST interface below /api/v1: words of HTTP into calls of `uploads` and `jobs`, and back.

Every view is marked with what it takes and gives; `openapi.py` makes the document of the marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, jsonify, request, send_file
from pydantic import BaseModel, ValidationError

from sharpreel.models import DEFAULT_MODEL
from sharpreel.web.context import Site, site
from sharpreel.web.http import openapi, schemas
from sharpreel.web.http.errors import Problem, not_found
from sharpreel.web.http.openapi import operation
from sharpreel.web.http.security import client
from sharpreel.web.jobs import service, storage, uploads
from sharpreel.web.jobs.store import Job, Upload

PREFIX = "/api/v1"
BYTES = "application/octet-stream"
PIECE = "application/offset+octet-stream"
EVENTS = "text/event-stream"
RANGE = {"Range": ({"type": "string"}, "bytes=FIRST-LAST")}
RETRY_MILLISECONDS = 2000  # after which a browser opens a broken stream anew

blueprint = Blueprint("api", __name__, url_prefix=PREFIX)

Body = TypeVar("Body", bound=BaseModel)


def body_as(kind: type[Body], empty: bool = False) -> Body:
    """The request's JSON as what it must be.

    Raises:
        Problem: It is not.
    """
    data = request.get_data(cache=False)
    if empty and not data:
        return kind()
    if request.mimetype != "application/json":
        raise Problem(415, "wrong_type", "Send application/json.")
    try:
        return kind.model_validate_json(data)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Problem(422, "invalid", f"{where or 'body'}: {first['msg']}.") from None


def answer(kind: type[BaseModel], values: Any, status: int = 200) -> Response:
    """Values as the JSON that the document promises."""
    response = jsonify(kind.model_validate(values).model_dump())
    response.status_code = status
    return response


def _upload(upload: Upload) -> dict[str, Any]:
    values = {name: getattr(upload, name) for name in ("id", "name", "size", "offset", "state")}
    if upload.state == "receiving" and upload.offset == upload.size:
        values["state"] = "checking" if site().receiving.holds(upload.id) else "receiving"
    chunk = site().settings.limits.chunk_bytes
    return {**values, "sha256": upload.sha256, "info": upload.info, "chunk_bytes": chunk}


def job_as_dict(here: Site, job: Job) -> dict[str, Any]:
    """A job as the API tells it, without what is the site's own business."""
    folder, base = storage.folder_of(here.settings, job), f"{PREFIX}/jobs/{job.id}"
    urls = {"self": base, "events": f"{base}/events"}
    if job.result is not None and job.state == "done":
        urls["result"] = f"{base}/result"
    for side in ("before", "after"):
        if job.state == "done" and _playable(folder, f"play-{side}"):
            urls[side] = f"{base}/play/{side}"
        if (folder / f"{side}.jpg").exists():
            urls[f"frame_{side}"] = f"{base}/frame/{side}"
    values = {name: getattr(job, name) for name in schemas.Job.model_fields if name != "urls"}
    results = [
        {"model": one["model"], "url": f"{base}/samples/{one['model']}"} for one in job.results
    ]
    known = {**values, "results": results, "urls": urls}
    return schemas.Job.model_validate(known).model_dump()


def _job(job: Job, status: int = 200) -> Response:
    response = jsonify(job_as_dict(site(), job))
    response.status_code = status
    return response


def _playable(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}{s}" for s in (".mp4", ".webm")) if p.exists()), None)


@blueprint.get("/openapi.json")
@operation("This document.", "application/json")
def document() -> Response:
    return jsonify(openapi.document(current_app, PREFIX))


@blueprint.get("/models")
@operation("Networks that run here.", schemas.Models)
def models() -> Response:
    return answer(schemas.Models, service.networks())


@blueprint.post("/uploads")
@operation("Announce a file.", schemas.Upload, 201, body=schemas.NewUpload)
def begin_upload() -> Response:
    new = body_as(schemas.NewUpload)
    made = uploads.begin(site(), new.name, new.size, client())
    return answer(schemas.Upload, _upload(made), 201)


@blueprint.get("/uploads")
@operation("Uploads that are here or on their way.", schemas.Uploads)
def list_uploads() -> Response:
    found = site().store.uploads("state != 'refused'")
    return answer(schemas.Uploads, [_upload(one) for one in found])


@blueprint.get("/uploads/<upload_id>")
@operation("How much of a file is here.", schemas.Upload)
def show_upload(upload_id: str) -> Response:
    return answer(schemas.Upload, _upload(uploads.find(site(), upload_id)))


@blueprint.patch("/uploads/<upload_id>")
@operation(
    "Send the next bytes of a file.",
    schemas.Offset,
    body=BYTES,
    headers={"Upload-Offset": ({"type": "integer", "minimum": 0}, "Where these bytes begin.")},
)
def receive(upload_id: str) -> Response:
    if request.mimetype not in ("", BYTES, PIECE):
        raise Problem(415, "wrong_type", f"Send {BYTES}.")
    length, offset = request.content_length, request.headers.get("Upload-Offset", "")
    if length is None:
        raise Problem(411, "length_required", "Say by Content-Length how many bytes come.")
    if not (offset.isascii() and offset.isdecimal() and len(offset) < 20):
        raise Problem(400, "invalid", "Upload-Offset must say where these bytes begin.")
    request.max_content_length = length  # how much is taken is said by the limits of uploads
    here = site()
    now = uploads.receive(here, upload_id, int(offset), length, request.stream)
    response = answer(schemas.Offset, {"offset": now.offset})
    response.headers["Upload-Offset"] = str(now.offset)
    return response


@blueprint.post("/uploads/<upload_id>/finish")
@operation("Check a file that is whole.", schemas.Upload, body=schemas.Finish)
def finish(upload_id: str) -> Response:
    asked = body_as(schemas.Finish, empty=True)
    return answer(schemas.Upload, _upload(uploads.finish(site(), upload_id, asked.sha256)))


@blueprint.delete("/uploads/<upload_id>")
@operation("Delete a file.", None, 204)
def remove_upload(upload_id: str) -> Response:
    uploads.remove(site(), upload_id)
    return Response(status=204)


@blueprint.post("/plans")
@operation("Say what a job would make and how long it takes.", schemas.Plan, body=schemas.NewJob)
def plan() -> Response:
    asked, here = body_as(schemas.NewJob), site()
    upload = uploads.ready(here, asked.upload)
    options = asked.options.model_dump(exclude_none=True)
    event = service.plan(here, upload, options, client(), trial=True)
    estimate = event["estimate"] or {}
    megabytes = estimate.get("output_mb")
    streams = [
        {
            "kind": stream["kind"],
            "label": " ".join(filter(None, [stream["codec"], stream["language"], stream["title"]])),
            "fate": stream["action"] + (f": {stream['why']}" if stream["why"] else ""),
        }
        for stream in event["streams"]
    ]
    made = {
        "width": event["to"]["width"],
        "height": event["to"]["height"],
        "frames": event["from"]["frames"],
        "seconds": event["from"]["seconds"],
        "engine": estimate.get("engine", ""),
        "eta_seconds": estimate.get("eta_seconds"),
        "bytes_estimate": None if megabytes is None else round(megabytes * 1e6),
        "codec": event["to"]["codec"],
        "container": Path(event["output"]).suffix.removeprefix("."),
        "streams": streams,
        "notes": event["notes"],
    }
    return answer(schemas.Plan, made)


@blueprint.post("/samples")
@operation("Make some seconds by several networks.", schemas.Job, 202, body=schemas.NewSample)
def make_sample() -> Response:
    asked, here = body_as(schemas.NewSample), site()
    upload = uploads.ready(here, asked.upload)
    for model in asked.models:
        service.check_network(model, asked.scale)
    length = (upload.info or {})["seconds"] or asked.seconds
    start = asked.start if asked.start is not None else max((length - asked.seconds) / 2, 0)
    if start >= length:
        raise Problem(422, "invalid", f"start: the video has {length:.1f} seconds only.")
    options = {
        "models": list(dict.fromkeys(asked.models)),
        "scale": asked.scale,
        "start": round(start, 3),
        "seconds": asked.seconds,
    }
    return _job(service.create(here, upload, "sample", options, client()), 202)


@blueprint.post("/jobs")
@operation("Have a film made.", schemas.Job, 202, body=schemas.NewJob)
def make_job() -> Response:
    asked, here = body_as(schemas.NewJob), site()
    upload = uploads.ready(here, asked.upload)
    options = {"model": DEFAULT_MODEL, **asked.options.model_dump(exclude_none=True)}
    service.plan(here, upload, options, client(), trial=False)
    return _job(service.create(here, upload, "upscale", options, client()), 202)


@blueprint.get("/jobs")
@operation("All jobs, the newest first.", schemas.Jobs)
def list_jobs() -> Response:
    here = site()
    found = reversed(here.store.jobs("state != 'deleted'"))
    return answer(schemas.Jobs, [job_as_dict(here, job) for job in found])


@blueprint.get("/jobs/<job_id>")
@operation("A job.", schemas.Job)
def show_job(job_id: str) -> Response:
    return _job(service.find(site(), job_id))


@blueprint.post("/jobs/<job_id>/cancel")
@operation("Stop a job and forget what it made.", schemas.Job)
def cancel(job_id: str) -> Response:
    return _job(service.cancel(site(), job_id))


@blueprint.post("/jobs/<job_id>/pause")
@operation("Stop a job and keep what it finished.", schemas.Job)
def pause(job_id: str) -> Response:
    return _job(service.pause(site(), job_id))


@blueprint.post("/jobs/<job_id>/resume")
@operation("Let a paused job go on.", schemas.Job)
def resume(job_id: str) -> Response:
    return _job(service.resume(site(), job_id))


@blueprint.post("/jobs/<job_id>/retry")
@operation("Try a failed or cancelled job again.", schemas.Job)
def retry(job_id: str) -> Response:
    return _job(service.retry(site(), job_id))


@blueprint.delete("/jobs/<job_id>")
@operation("Delete a job and its files.", None, 204)
def remove_job(job_id: str) -> Response:
    service.delete(site(), job_id)
    return Response(status=204)


@blueprint.get("/events")
@operation("All jobs, each that changes, and the ids of those that go (event: gone).", EVENTS)
def all_events() -> Response:
    return _stream(None)


@blueprint.get("/jobs/<job_id>/events")
@operation("A job whenever it changes, until it ends, as server-sent events.", EVENTS)
def job_events(job_id: str) -> Response:
    return _stream(service.find(site(), job_id).id)


def _stream(job_id: str | None) -> Response:
    here, who = site(), client()
    if not here.streams.enter(who):
        raise Problem(429, "too_many", "You follow as many streams of events as you may.")

    def lines() -> Iterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        for found in here.feed.follow(job_id):
            for job in found:
                if job.state == "deleted":
                    yield f"event: gone\ndata: {json.dumps({'id': job.id})}\n\n"
                else:
                    yield f"event: job\ndata: {json.dumps(job_as_dict(here, job))}\n\n"
            if not found:
                yield ": still here\n\n"

    response = Response(lines(), mimetype=EVENTS)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx shall not collect it
    response.call_on_close(lambda: here.streams.leave(who))
    return response


@blueprint.get("/jobs/<job_id>/result")
@operation(
    "The finished film.",
    BYTES,
    partial=True,
    query={"download": ({"type": "string", "enum": ["0", "1"]}, "1: as a file to keep.")},
)
def result(job_id: str) -> Response:
    here = site()
    job = service.find(here, job_id)
    if job.state != "done" or job.result is None:
        raise Problem(409, "not_ready", f"The job is {job.state}; it has no result.")
    path = storage.folder_of(here.settings, job) / job.result["file"]
    as_file = request.args.get("download") == "1"
    return _send(path, job.result["name"] if as_file else None, job.result["sha256"])


@blueprint.get("/jobs/<job_id>/play/<side>")
@operation("Input or result, as browsers play it.", "video/mp4", partial=True)
def play(job_id: str, side: str) -> Response:
    here = site()
    job = service.find(here, job_id)
    if side not in ("before", "after"):
        raise not_found("video")
    return _send(_playable(storage.folder_of(here.settings, job), f"play-{side}"))


@blueprint.get("/jobs/<job_id>/samples/<model>")
@operation("A sample by one network, as browsers play it.", "video/mp4", partial=True)
def sample(job_id: str, model: str) -> Response:
    here = site()
    job = service.find(here, job_id)
    if model not in [one["model"] for one in job.results]:
        raise not_found("sample")
    return _send(_playable(storage.folder_of(here.settings, job), f"sample-{model}"))


@blueprint.get("/jobs/<job_id>/frame/<side>")
@operation("The newest finished place, before or after, as JPEG.", "image/jpeg")
def frame(job_id: str, side: str) -> Response:
    here = site()
    job = service.find(here, job_id)
    if side not in ("before", "after"):
        raise not_found("frame")
    return _send(storage.folder_of(here.settings, job) / f"{side}.jpg")


def _send(path: Path | None, name: str | None = None, tag: str | None = None) -> Response:
    """A file, or the part of it that a Range asks for; `tag` changes when the file does."""
    if path is None or not path.is_file():
        raise not_found("file")
    response = send_file(
        path, conditional=True, as_attachment=name is not None, download_name=name, etag=tag or True
    )
    response.headers["Cache-Control"] = "private, no-cache"
    return response
