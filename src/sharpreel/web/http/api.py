"""The REST API under /api/v1: turns requests into calls of `jobs.uploads` and `jobs.service`.

Every view is marked with its request and response types; `openapi.py` builds the document from
these marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, jsonify, request, send_file
from pydantic import BaseModel, ValidationError

from sharpreel.models import DEFAULT_MODEL
from sharpreel.pipeline.events import PlanEvent
from sharpreel.web.context import SiteContext, current_site
from sharpreel.web.http import openapi, schemas
from sharpreel.web.http.errors import ApiError, not_found
from sharpreel.web.http.openapi import operation
from sharpreel.web.http.security import client
from sharpreel.web.jobs import service, storage, uploads
from sharpreel.web.jobs.messages import for_users
from sharpreel.web.jobs.store import Job, Upload

PREFIX = "/api/v1"
BYTES = "application/octet-stream"
CHUNK = "application/offset+octet-stream"
EVENTS = "text/event-stream"
RETRY_MILLISECONDS = 2000  # after which a browser reopens a broken stream

blueprint = Blueprint("api", __name__, url_prefix=PREFIX)

Body = TypeVar("Body", bound=BaseModel)


def parse_body(kind: type[Body], may_be_empty: bool = False) -> Body:
    """The request's JSON as an instance of `kind`.

    Raises:
        ApiError: It is not valid.
    """
    data = request.get_data(cache=False)
    if may_be_empty and not data:
        return kind()
    if request.mimetype != "application/json":
        raise ApiError(415, "wrong_type", "Send application/json.")
    try:
        return kind.model_validate_json(data)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False, include_input=False)[0]
        location = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise ApiError(422, "invalid", f"{location or 'body'}: {reason}.") from None


def respond(kind: type[BaseModel], values: Any, status: int = 200) -> Response:
    """A JSON response, validated against its schema."""
    response = jsonify(kind.model_validate(values).model_dump())
    response.status_code = status
    return response


def _upload_as_dict(upload: Upload) -> dict[str, Any]:
    site = current_site()
    values = {name: getattr(upload, name) for name in ("id", "name", "size", "offset", "state")}
    if upload.state == "receiving" and upload.offset == upload.size:
        values["state"] = "checking" if site.receiving.holds(upload.id) else "receiving"
    return {
        **values,
        "sha256": upload.sha256,
        "info": upload.info,
        "chunk_bytes": site.settings.limits.chunk_bytes,
    }


def job_as_dict(site: SiteContext, job: Job) -> dict[str, Any]:
    """A job as in the API, without the internals of the site."""
    folder, base = site.settings.job_folder(job.id), f"{PREFIX}/jobs/{job.id}"
    urls = {"self": base, "events": f"{base}/events"}
    if job.result is not None and job.state == "done":
        urls["result"] = f"{base}/result"
    for side in ("before", "after"):
        if job.state == "done" and storage.playable_file(folder, f"play-{side}"):
            urls[side] = f"{base}/play/{side}"
        if (folder / f"{side}.jpg").exists():
            urls[f"frame_{side}"] = f"{base}/frame/{side}"
    values = {name: getattr(job, name) for name in schemas.Job.model_fields if name != "urls"}
    results = [
        {"model": one["model"], "url": f"{base}/samples/{one['model']}"} for one in job.results
    ]
    return schemas.Job.model_validate({**values, "results": results, "urls": urls}).model_dump()


def _job_response(job: Job, status: int = 200) -> Response:
    response = jsonify(job_as_dict(current_site(), job))
    response.status_code = status
    return response


@blueprint.get("/openapi.json")
@operation("This document.", "application/json")
def document() -> Response:
    return jsonify(openapi.document(current_app, PREFIX))


@blueprint.get("/models")
@operation("The models that run on this site.", schemas.Models)
def models() -> Response:
    return respond(schemas.Models, service.models())


@blueprint.post("/uploads")
@operation("Start an upload.", schemas.Upload, 201, body=schemas.NewUpload)
def begin_upload() -> Response:
    new = parse_body(schemas.NewUpload)
    upload = uploads.begin(current_site(), new.name, new.size, client())
    return respond(schemas.Upload, _upload_as_dict(upload), 201)


@blueprint.get("/uploads")
@operation("All uploads except refused ones.", schemas.Uploads)
def list_uploads() -> Response:
    uploaded = current_site().store.uploads()
    return respond(schemas.Uploads, [_upload_as_dict(upload) for upload in uploaded])


@blueprint.get("/uploads/<upload_id>")
@operation("An upload, with its number of received bytes.", schemas.Upload)
def show_upload(upload_id: str) -> Response:
    return respond(schemas.Upload, _upload_as_dict(uploads.find(current_site(), upload_id)))


@blueprint.patch("/uploads/<upload_id>")
@operation(
    "Send the next bytes of an upload.",
    schemas.Offset,
    body=BYTES,
    headers={"Upload-Offset": ({"type": "integer", "minimum": 0}, "Offset of the first byte.")},
)
def receive(upload_id: str) -> Response:
    if request.mimetype not in ("", BYTES, CHUNK):
        raise ApiError(415, "wrong_type", f"Send {BYTES}.")
    length, offset = request.content_length, request.headers.get("Upload-Offset", "")
    if length is None:
        raise ApiError(411, "length_required", "Content-Length is required.")
    if not (offset.isascii() and offset.isdecimal() and len(offset) < 20):
        raise ApiError(400, "invalid", "Upload-Offset must be the offset of the first byte.")
    request.max_content_length = length  # `uploads.receive` applies its own limits
    upload = uploads.receive(current_site(), upload_id, int(offset), length, request.stream)
    response = respond(schemas.Offset, {"offset": upload.offset})
    response.headers["Upload-Offset"] = str(upload.offset)
    return response


@blueprint.post("/uploads/<upload_id>/finish")
@operation("Check a complete upload.", schemas.Upload, body=schemas.Finish)
def finish(upload_id: str) -> Response:
    body = parse_body(schemas.Finish, may_be_empty=True)
    upload = uploads.finish(current_site(), upload_id, body.sha256)
    return respond(schemas.Upload, _upload_as_dict(upload))


@blueprint.delete("/uploads/<upload_id>")
@operation("Delete an upload.", None, 204)
def remove_upload(upload_id: str) -> Response:
    uploads.remove(current_site(), upload_id)
    return Response(status=204)


@blueprint.post("/plans")
@operation("What a job would produce, and how long it takes.", schemas.Plan, body=schemas.NewJob)
def plan() -> Response:
    body, site = parse_body(schemas.NewJob), current_site()
    upload = uploads.find_ready(site, body.upload)
    options = body.options.model_dump(exclude_none=True)
    event = service.plan(site, upload, options, client(), estimate=True)
    return respond(schemas.Plan, _plan_as_dict(event))


def _plan_as_dict(event: PlanEvent) -> dict[str, Any]:
    """A plan of `sharpreel plan` as in the API."""
    estimate = event["estimate"]
    megabytes = None if estimate is None else estimate["output_mb"]
    streams = [
        {
            "kind": stream["kind"],
            "label": " ".join(filter(None, [stream["codec"], stream["language"], stream["title"]])),
            "fate": stream["action"] + (f": {for_users(stream['why'])}" if stream["why"] else ""),
        }
        for stream in event["streams"]
    ]
    return {
        "width": event["to"]["width"],
        "height": event["to"]["height"],
        "frames": event["from"]["frames"],
        "seconds": event["from"]["seconds"],
        "engine": "" if estimate is None else estimate["engine"],
        "eta_seconds": None if estimate is None else estimate["eta_seconds"],
        "bytes_estimate": None if megabytes is None else round(megabytes * 1e6),
        "codec": event["to"]["codec"],
        "container": Path(event["output"]).suffix.removeprefix("."),
        "streams": streams,
        "notes": [for_users(note) for note in event["notes"]],
    }


@blueprint.post("/samples")
@operation("Upscale a few seconds by several models.", schemas.Job, 202, body=schemas.NewSample)
def make_sample() -> Response:
    body, site = parse_body(schemas.NewSample), current_site()
    upload = uploads.find_ready(site, body.upload)
    for model in body.models:
        service.validate_model(model, body.scale)
    length = (upload.info or {})["seconds"] or body.seconds
    start = body.start if body.start is not None else max((length - body.seconds) / 2, 0)
    if start >= length:
        raise ApiError(422, "invalid", f"start: the video has only {length:.1f} seconds.")
    options = {
        "models": list(dict.fromkeys(body.models)),
        "scale": body.scale,
        "start": round(start, 3),
        "seconds": body.seconds,
    }
    return _job_response(service.create(site, upload, "sample", options, client()), 202)


@blueprint.post("/jobs")
@operation("Upscale a video.", schemas.Job, 202, body=schemas.NewJob)
def make_job() -> Response:
    body, site = parse_body(schemas.NewJob), current_site()
    upload = uploads.find_ready(site, body.upload)
    options = {"model": DEFAULT_MODEL, **body.options.model_dump(exclude_none=True)}
    service.plan(site, upload, options, client(), estimate=False)
    return _job_response(service.create(site, upload, "upscale", options, client()), 202)


@blueprint.get("/jobs")
@operation("All jobs, the newest first.", schemas.Jobs)
def list_jobs() -> Response:
    site = current_site()
    newest_first = reversed(site.store.jobs())
    return respond(schemas.Jobs, [job_as_dict(site, job) for job in newest_first])


@blueprint.get("/jobs/<job_id>")
@operation("A job.", schemas.Job)
def show_job(job_id: str) -> Response:
    return _job_response(service.find(current_site(), job_id))


@blueprint.post("/jobs/<job_id>/cancel")
@operation("Stop a job and discard its work.", schemas.Job)
def cancel(job_id: str) -> Response:
    return _job_response(service.cancel(current_site(), job_id))


@blueprint.post("/jobs/<job_id>/pause")
@operation("Stop a job and keep its finished work.", schemas.Job)
def pause(job_id: str) -> Response:
    return _job_response(service.pause(current_site(), job_id))


@blueprint.post("/jobs/<job_id>/resume")
@operation("Resume a paused job.", schemas.Job)
def resume(job_id: str) -> Response:
    return _job_response(service.resume(current_site(), job_id))


@blueprint.post("/jobs/<job_id>/retry")
@operation("Retry a failed or cancelled job.", schemas.Job)
def retry(job_id: str) -> Response:
    return _job_response(service.retry(current_site(), job_id))


@blueprint.delete("/jobs/<job_id>")
@operation("Delete a job and its files.", None, 204)
def remove_job(job_id: str) -> Response:
    service.delete(current_site(), job_id)
    return Response(status=204)


@blueprint.get("/events")
@operation("All jobs, then each changed job, and the ids of deleted ones (event: gone).", EVENTS)
def all_events() -> Response:
    return _stream(None)


@blueprint.get("/jobs/<job_id>/events")
@operation("A job after each change, until it ends, as server-sent events.", EVENTS)
def job_events(job_id: str) -> Response:
    return _stream(service.find(current_site(), job_id).id)


def _stream(job_id: str | None) -> Response:
    site, subscriber = current_site(), client()
    if not site.streams.enter(subscriber):
        raise ApiError(429, "too_many", "Too many open event streams.")

    def lines() -> Iterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        for changed in site.feed.follow(job_id):
            for job in changed:
                if job.state == "deleted":
                    yield f"event: gone\ndata: {json.dumps({'id': job.id})}\n\n"
                else:
                    yield f"event: job\ndata: {json.dumps(job_as_dict(site, job))}\n\n"
            if not changed:
                yield ": keep-alive\n\n"

    response = Response(lines(), mimetype=EVENTS)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # no buffering in nginx
    response.call_on_close(lambda: site.streams.leave(subscriber))
    return response


@blueprint.get("/jobs/<job_id>/result")
@operation(
    "The finished video.",
    BYTES,
    partial=True,
    query={"download": ({"type": "string", "enum": ["0", "1"]}, "1: as a download.")},
)
def result(job_id: str) -> Response:
    site = current_site()
    job = service.find(site, job_id)
    if job.state != "done" or job.result is None:
        raise ApiError(409, "not_ready", f"The job is {job.state}; it has no result.")
    path = site.settings.job_folder(job.id) / job.result["file"]
    as_file = request.args.get("download") == "1"
    return _send_file(path, job.result["name"] if as_file else None, job.result["sha256"])


@blueprint.get("/jobs/<job_id>/play/<side>")
@operation("Input or result, in a form that browsers play.", "video/mp4", partial=True)
def play(job_id: str, side: str) -> Response:
    site = current_site()
    job = service.find(site, job_id)
    if side not in ("before", "after"):
        raise not_found("video")
    return _send_file(storage.playable_file(site.settings.job_folder(job.id), f"play-{side}"))


@blueprint.get("/jobs/<job_id>/samples/<model>")
@operation("A sample by one model, in a form that browsers play.", "video/mp4", partial=True)
def sample(job_id: str, model: str) -> Response:
    site = current_site()
    job = service.find(site, job_id)
    if model not in [one["model"] for one in job.results]:
        raise not_found("sample")
    return _send_file(storage.playable_file(site.settings.job_folder(job.id), f"sample-{model}"))


@blueprint.get("/jobs/<job_id>/frame/<side>")
@operation("The newest finished frame, before or after, as JPEG.", "image/jpeg")
def frame(job_id: str, side: str) -> Response:
    site = current_site()
    job = service.find(site, job_id)
    if side not in ("before", "after"):
        raise not_found("frame")
    return _send_file(site.settings.job_folder(job.id) / f"{side}.jpg")


def _send_file(path: Path | None, name: str | None = None, etag: str | None = None) -> Response:
    """A file, or the requested range of it.

    Args:
        name: Name of the download; None: to be shown in the page.
        etag: Changes when the file does.
    """
    if path is None or not path.is_file():
        raise not_found("file")
    response = send_file(
        path,
        conditional=True,
        as_attachment=name is not None,
        download_name=name,
        etag=etag or True,
    )
    response.headers["Cache-Control"] = "private, no-cache"
    return response
