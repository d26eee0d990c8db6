"""Resumable uploads: files arrive in chunks and are inspected before they can be used.

    POST ──> row, empty file    PATCH at offset ──> bytes to disk    finish ──> checksum, inspection

A file is named after its random id, with a suffix from a fixed list; the user's name is a label.
Bytes go from the socket to the disk block by block. They count even if the connection breaks in
the middle of a chunk, so a client asks for the offset and resumes there.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sharpreel.media.probe import VIDEO_SUFFIXES
from sharpreel.system import download
from sharpreel.web import logs
from sharpreel.web.context import SiteContext
from sharpreel.web.http.errors import ApiError, not_found
from sharpreel.web.jobs import storage
from sharpreel.web.jobs.store import Upload
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings

BLOCK = 1 << 16  # after a broken connection, complete blocks count
MAX_NAME_LENGTH = 200
BUSY_SECONDS = 2  # Retry-After when another request has the upload
POLL_SECONDS = 0.1  # how often a request in line checks whether it was superseded
SLOT_TIMEOUT_SECONDS = 60  # maximum time that a request waits for a slot

log = logging.getLogger(__name__)


def clean_name(name: str) -> str:
    """A user's file name as a label: its last part, without control characters, not too long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(c for c in unicodedata.normalize("NFC", last) if c.isprintable()).strip(". ")
    if len(clean) > MAX_NAME_LENGTH:
        suffix = PurePosixPath(clean).suffix[:16]
        clean = clean[: MAX_NAME_LENGTH - len(suffix)] + suffix
    return clean or "video"


def suffix_of(name: str) -> str:
    """The suffix of a clean name if it is one of a video, otherwise nothing."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in VIDEO_SUFFIXES else ""


def path_of(settings: Settings, upload: Upload) -> Path:
    return settings.upload_file(upload.id, upload.suffix)


def find(site: SiteContext, upload_id: str) -> Upload:
    """An upload by its id.

    Raises:
        ApiError: There is none.
    """
    upload = site.store.upload(upload_id)
    if upload is None:
        raise not_found("upload")
    return upload


def find_ready(site: SiteContext, upload_id: str) -> Upload:
    """A complete upload that is a video.

    Raises:
        ApiError: There is none, or it is not finished.
    """
    upload = find(site, upload_id)
    if upload.state != "ready":
        raise ApiError(409, "not_ready", "This upload is not finished.")
    return upload


def begin(site: SiteContext, name: str, size: int, client: str) -> Upload:
    """Create an upload of `size` bytes.

    Raises:
        ApiError: It is too large, the disk is too full, or the client has too many unfinished ones.
    """
    limits = site.settings.limits
    if size > limits.upload_bytes:
        message = (
            f"The file has {size / 1e9:.2f} GB; the limit of this site is "
            f"{limits.upload_bytes / 1e9:.2f} GB."
        )
        raise ApiError(413, "too_large", message)
    unfinished = site.store.unfinished_uploads(client)
    if len(unfinished) >= limits.uploads_per_client:
        message = f"You have {len(unfinished)} unfinished uploads; finish or delete one first."
        raise ApiError(429, "too_many", message)
    ensure_room(site, size)
    label = clean_name(name)
    upload = site.store.add_upload(name=label, suffix=suffix_of(label), size=size, client=client)
    path_of(site.settings, upload).touch(mode=0o600)
    return upload


def ensure_room(site: SiteContext, needed_bytes: int) -> None:
    """Make room on the disk for all unfinished uploads and `needed_bytes` more.

    Raises:
        ApiError: There is too little.
    """
    missing = sum(u.size - u.offset for u in site.store.unfinished_uploads())
    if not storage.make_room(site.settings, site.store, missing + needed_bytes):
        raise ApiError(507, "disk_full", "Not enough disk space; try again later.")


@contextmanager
def exclusive(site: SiteContext, upload_id: str) -> Iterator[Upload]:
    """An upload that only this request writes during the block.

    Raises:
        ApiError: There is none, or another request writes it.
    """
    with site.receiving.inside(upload_id) as entered:
        if not entered:
            message = "Another request is sending or checking this upload."
            raise ApiError(409, "busy", message, {"Retry-After": str(BUSY_SECONDS)})
        yield find(site, upload_id)


def receive(site: SiteContext, upload_id: str, offset: int, length: int, body: IO[bytes]) -> Upload:
    """Write the bytes of one request to the file at `offset`.

    Raises:
        ApiError: The offset is not the current one, there are too many bytes, or they stopped.
    """
    with exclusive(site, upload_id) as upload:
        _validate_chunk(upload, offset, length, site.settings.limits.chunk_bytes)
        received = 0
        try:
            with path_of(site.settings, upload).open("r+b") as file:
                file.seek(offset)
                received = _copy(body, file, length)
        except OSError as e:
            message = "The data could not be written; try again later."
            raise ApiError(507, "disk_full", message) from e
        finally:
            site.store.update_upload(upload.id, offset=offset + received)
            site.metrics.count("sharpreel_upload_bytes_total", received)
        if received < length:
            message = "The connection broke; ask for the offset and resume there."
            raise ApiError(400, "cut_off", message)
        if offset == 0 and length < upload.size:
            _inspect_first_chunk(site, upload)
        return find(site, upload.id)


def _validate_chunk(upload: Upload, offset: int, length: int, chunk_bytes: int) -> None:
    """Raise ApiError unless these bytes are the next ones of the upload, and not too many."""
    if upload.state != "receiving":
        raise ApiError(409, "finished", "This upload is finished.")
    if offset != upload.offset:
        message = f"The server has {upload.offset} bytes, not {offset}; resume from there."
        raise _offset_error("wrong_offset", message, upload)
    if length > 4 * chunk_bytes:
        message = f"Send at most {chunk_bytes} bytes at a time."
        raise ApiError(413, "chunk_too_large", message)
    if offset + length > upload.size:
        message = f"That is more than the announced {upload.size} bytes."
        raise ApiError(413, "too_large", message)


def _offset_error(code: str, message: str, upload: Upload) -> ApiError:
    headers = {"Upload-Offset": str(upload.offset)}
    return ApiError(409, code, message, headers, offset=upload.offset)


def _copy(body: IO[bytes], file: IO[bytes], length: int) -> int:
    """Copy at most `length` bytes to the disk and sync them; returns their number.

    Any error of the connection ends the copy; only the disk raises.
    """
    received = 0
    while received < length:
        try:
            block = body.read(min(BLOCK, length - received))
        except Exception:  # errors of the server's own types: a client that left or is too slow
            break
        if not block:
            break
        file.write(block)
        received += len(block)
    file.flush()
    os.fsync(file.fileno())
    return received


def _inspect_first_chunk(site: SiteContext, upload: Upload) -> None:
    """Refuse an upload whose first chunk shows that the video is too long or too large."""
    found = _inspect(site, upload)
    if "info" in found:
        _validate_or_refuse(site, upload, found["info"])


def finish(site: SiteContext, upload_id: str, sha256: str | None) -> Upload:
    """Check that an upload is complete and an acceptable video.

    Raises:
        ApiError: It is not.
    """
    with exclusive(site, upload_id) as upload:
        if upload.state == "ready":
            if sha256 not in (None, upload.sha256):
                raise _checksum_error(upload.sha256 or "")
            return upload
        if upload.state == "refused":
            raise ApiError(422, "not_a_video", "This upload was refused; send another file.")
        if upload.offset != upload.size:
            message = f"{upload.size - upload.offset} of {upload.size} bytes are missing."
            raise _offset_error("incomplete", message, upload)
        digest = download.sha256_of(path_of(site.settings, upload))
        if sha256 is not None and sha256 != digest:
            _refuse(site, upload)
            raise _checksum_error(digest)
        found = _inspect(site, upload)
        if "info" not in found:
            _refuse(site, upload)
            raise ApiError(422, "not_a_video", f"{upload.name}: {found['error']}")
        _validate_or_refuse(site, upload, found["info"])
        site.store.update_upload(upload.id, state="ready", sha256=digest, info=found["info"])
        logs.log_event(log, "upload ready", upload=upload.id, bytes=upload.size)
        return find(site, upload.id)


def _checksum_error(digest: str) -> ApiError:
    message = f"Checksum mismatch: received SHA-256 {digest}, not the given one. Send it again."
    return ApiError(422, "wrong_sha256", message)


def _validate_or_refuse(site: SiteContext, upload: Upload, info: dict[str, Any]) -> None:
    try:
        validate_size(site.settings, info)
    except ApiError:
        _refuse(site, upload)
        raise


def _refuse(site: SiteContext, upload: Upload) -> None:
    path_of(site.settings, upload).unlink(missing_ok=True)
    site.store.update_upload(upload.id, state="refused")


def superseded() -> ApiError:
    return ApiError(409, "superseded", "You requested a newer plan of this upload meanwhile.")


@contextmanager
def child_slot(
    site: SiteContext,
    client: str,
    slots: threading.Semaphore,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """Hold one of the slots for child processes during the block.

    Args:
        stop: Ends the wait for a slot when it is set.

    Raises:
        ApiError: The client has too many requests in line, or waits for too long.
    """
    stop = stop or threading.Event()
    with site.analyses.inside(client) as entered:
        if not entered:
            message = "Too many uploads are being analysed; wait a moment."
            raise ApiError(429, "too_many", message, {"Retry-After": "2"})
        deadline = time.monotonic() + SLOT_TIMEOUT_SECONDS
        while not slots.acquire(timeout=POLL_SECONDS):
            if stop.is_set():
                raise superseded()
            if time.monotonic() > deadline:
                raise ApiError(503, "busy", "The server is busy; try again.", {"Retry-After": "10"})
        try:
            yield
        finally:
            slots.release()


def _inspect(site: SiteContext, upload: Upload) -> dict[str, Any]:
    """{"info": ...} or {"error": ...} from a child process, which the file may crash."""
    limits = site.settings.limits
    child_limits = process.ResourceLimits(limits.sniff_bytes, int(limits.sniff_seconds), 0)
    with child_slot(site, upload.client, site.inspection_slots):
        ended = process.run(
            "sharpreel.web.sandbox.inspect",
            [path_of(site.settings, upload)],
            child_limits,
            3 * limits.sniff_seconds,
        )
    if ended.exit_code == 0:
        found: dict[str, Any] = json.loads(ended.stdout)
        return found
    logs.log_event(
        log, "inspection failed", upload=upload.id, code=ended.exit_code, stderr=ended.stderr[-500:]
    )
    return {"error": "reading it took too much time or memory, or crashed the decoder."}


def validate_size(settings: Settings, info: dict[str, Any]) -> None:
    """Raise ApiError for a video that is too long or whose frames are too large."""
    limits = settings.limits
    if info["width"] * info["height"] > limits.frame_pixels:
        message = (
            f"Frames of {info['width']}x{info['height']} exceed the limit of this site, "
            f"{limits.frame_pixels} pixels."
        )
        raise ApiError(422, "too_many_pixels", message)
    seconds = info["seconds"] or (info["frames"] or 0) / (info["fps"] or 25)
    if seconds > limits.upload_seconds:
        message = (
            f"The video has {seconds:.0f} seconds; the limit of this site is "
            f"{limits.upload_seconds:.0f}."
        )
        raise ApiError(422, "too_long", message)


def remove(site: SiteContext, upload_id: str) -> None:
    """Delete an upload; its jobs keep their input.

    Raises:
        ApiError: There is none, or it is being sent.
    """
    with exclusive(site, upload_id) as upload:
        path_of(site.settings, upload).unlink(missing_ok=True)
        site.store.remove_upload(upload.id)
