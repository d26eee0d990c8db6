"""Files that come in pieces, are written where they belong, and are looked at before they count.

    POST ──> row, empty file    PATCH at offset ──> bytes to the disk    finish ──> sum, child looks

A file is called by its random id, with a suffix from our own list; the user's name is a label.
Bytes go from the socket to the disk a block at a time. What arrived counts even when the connection
broke in the middle, so a client asks for the offset and goes on.
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
from sharpreel.web.context import Site
from sharpreel.web.http.errors import Problem, not_found
from sharpreel.web.http.rate_limits import ConcurrencyLimit
from sharpreel.web.jobs import storage
from sharpreel.web.jobs.store import Upload
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings

BLOCK = 1 << 16  # what came before a line broke counts to the last whole one
LABEL_LENGTH = 200
BUSY_SECONDS = 2  # after which who finds an upload busy should ask again
LOOK_SECONDS = 0.1  # between two looks whether waiting is still of use
PATIENCE_SECONDS = 60  # that a request waits for its turn to have an upload looked at

log_of = logging.getLogger("sharpreel.web.jobs.uploads")


def label_of(name: str) -> str:
    """A user's file name as a label: its last part, without control characters, not too long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(c for c in unicodedata.normalize("NFC", last) if c.isprintable()).strip(". ")
    if len(clean) > LABEL_LENGTH:
        suffix = PurePosixPath(clean).suffix[:16]
        clean = clean[: LABEL_LENGTH - len(suffix)] + suffix
    return clean or "video"


def suffix_of(label: str) -> str:
    """The suffix of a label where it is one of a video, else nothing."""
    suffix = PurePosixPath(label).suffix.lower()
    return suffix if suffix in VIDEO_SUFFIXES else ""


def path_of(settings: Settings, upload: Upload) -> Path:
    return settings.uploads / f"{upload.id}{upload.suffix}"


def find(here: Site, upload_id: str) -> Upload:
    """An upload by its id.

    Raises:
        Problem: There is none.
    """
    found = here.store.upload(upload_id)
    if found is None:
        raise not_found("upload")
    return found


def ready(here: Site, upload_id: str) -> Upload:
    """An upload that is whole and is a video.

    Raises:
        Problem: There is none, or it is not yet.
    """
    found = find(here, upload_id)
    if found.state != "ready":
        raise Problem(409, "not_ready", "This upload is not finished.")
    return found


def begin(here: Site, name: str, size: int, client: str) -> Upload:
    """Make room for a file.

    Raises:
        Problem: It is too large, the disk is too full, or the client has begun too many.
    """
    limits = here.settings.limits
    if size > limits.upload_bytes:
        raise too_large(size, limits.upload_bytes)
    open_ones = here.store.uploads("state = 'receiving' AND client = ?", client)
    if len(open_ones) >= limits.uploads_per_client:
        words = f"You have {len(open_ones)} unfinished uploads; finish or delete one first."
        raise Problem(429, "too_many", words)
    check_room(here, size)
    label = label_of(name)
    made = here.store.add_upload(name=label, suffix=suffix_of(label), size=size, client=client)
    path_of(here.settings, made).touch(mode=0o600)
    return made


def too_large(size: int, most: int) -> Problem:
    words = f"{size / 1e9:.2f} GB is more than the {most / 1e9:.2f} GB that are taken here."
    return Problem(413, "too_large", words)


def check_room(here: Site, more: int) -> None:
    """Refuse what the disk or the quota has no room for, what failed jobs had made put aside.

    Raises:
        Problem: There is too little.
    """
    waiting = sum(u.size - u.offset for u in here.store.uploads("state = 'receiving'"))
    if not storage.make_room(here.settings, here.store, waiting + more):
        raise Problem(507, "disk_full", "There is no room for this now. Try again later.")


@contextmanager
def writing(here: Site, upload_id: str) -> Iterator[Upload]:
    """An upload that this request alone may write.

    Raises:
        Problem: There is none, or another request writes it.
    """
    gate: ConcurrencyLimit = here.receiving
    with gate.inside(upload_id) as alone:
        if not alone:
            words = "Another request is sending this upload, or has it checked."
            raise Problem(409, "busy", words, {"Retry-After": str(BUSY_SECONDS)})
        yield find(here, upload_id)


def receive(here: Site, upload_id: str, offset: int, length: int, body: IO[bytes]) -> Upload:
    """Write the bytes of one request where they belong.

    Raises:
        Problem: The offset is not what is here, there are too many bytes, or they stopped coming.
    """
    limits = here.settings.limits
    with writing(here, upload_id) as upload:
        if upload.state != "receiving":
            raise Problem(409, "finished", "This upload is finished.")
        if offset != upload.offset:
            words = f"{upload.offset} bytes are here, not {offset}; go on from there."
            raise Problem(
                409, "wrong_offset", words, {"Upload-Offset": str(upload.offset)},
                offset=upload.offset,
            )  # fmt: skip
        if length > 4 * limits.chunk_bytes:
            words = f"Send at most {limits.chunk_bytes} bytes at a time."
            raise Problem(413, "chunk_too_large", words)
        if offset + length > upload.size:
            words = f"That is more than the {upload.size} bytes that were announced."
            raise Problem(413, "too_large", words)
        came = 0
        try:
            with path_of(here.settings, upload).open("r+b") as file:
                file.seek(offset)
                came = _copy(body, file, length)
        except OSError as e:
            raise Problem(507, "disk_full", "It could not be written; try again later.") from e
        finally:
            here.store.update_upload(upload.id, offset=offset + came)
            here.metrics.count("sharpreel_upload_bytes_total", came)
        if came < length:
            raise Problem(400, "cut_off", "The connection broke; ask for the offset and go on.")
        if offset == 0 and length < upload.size:
            _look_early(here, upload)
        return find(here, upload.id)


def _copy(body: IO[bytes], file: IO[bytes], length: int) -> int:
    """Copy so many bytes to the disk and wait until they are there; how many came.

    Whatever breaks on the other side ends the bytes; only the disk raises.
    """
    came = 0
    while came < length:
        try:
            block = body.read(min(BLOCK, length - came))
        except Exception:  # the server's own kinds of errors: a client that left or is too slow
            break
        if not block:
            break
        file.write(block)
        came += len(block)
    file.flush()
    os.fsync(file.fileno())
    return came


def _look_early(here: Site, upload: Upload) -> None:
    """Refuse by its first piece what is too long or too large; who cannot tell yet goes on."""
    found = _sniff(here, upload)
    if "info" in found:
        try:
            check_size(here.settings, found["info"])
        except Problem:
            _refuse(here, upload)
            raise


def finish(here: Site, upload_id: str, sha256: str | None) -> Upload:
    """Check that a file is whole and a video that is taken here.

    Raises:
        Problem: It is not.
    """
    with writing(here, upload_id) as upload:
        if upload.state == "ready":
            if sha256 not in (None, upload.sha256):
                raise _wrong_sum(upload.sha256 or "")
            return upload
        if upload.state == "refused":
            raise Problem(422, "not_a_video", "This upload was refused; send another file.")
        if upload.offset != upload.size:
            words = f"{upload.size - upload.offset} of {upload.size} bytes are missing."
            raise Problem(
                409, "incomplete", words, {"Upload-Offset": str(upload.offset)},
                offset=upload.offset,
            )  # fmt: skip
        digest = download.sha256_of(path_of(here.settings, upload))
        if sha256 is not None and sha256 != digest:
            _refuse(here, upload)
            raise _wrong_sum(digest)
        found = _sniff(here, upload)
        if "info" not in found:
            _refuse(here, upload)
            raise Problem(422, "not_a_video", f"{upload.name}: {found['error']}")
        try:
            check_size(here.settings, found["info"])
        except Problem:
            _refuse(here, upload)
            raise
        here.store.update_upload(upload.id, state="ready", sha256=digest, info=found["info"])
        logs.say(log_of, "upload ready", upload=upload.id, bytes=upload.size)
        return find(here, upload.id)


def _wrong_sum(digest: str) -> Problem:
    words = f"The bytes that came have the SHA-256 {digest}, not the one given. Send it again."
    return Problem(422, "wrong_sha256", words)


def _refuse(here: Site, upload: Upload) -> None:
    path_of(here.settings, upload).unlink(missing_ok=True)
    here.store.update_upload(upload.id, state="refused")


def superseded() -> Problem:
    return Problem(409, "superseded", "You asked for a newer plan of this upload meanwhile.")


@contextmanager
def turn(
    here: Site,
    client: str,
    places: threading.Semaphore,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """One of the places for children that look at uploads, while the block runs.

    Args:
        stop: When this is set the wait is over, without a place.

    Raises:
        Problem: The client waits for too many, or too long.
    """
    stop = stop or threading.Event()
    with here.looking.inside(client) as entered:
        if not entered:
            raise Problem(
                429,
                "too_many",
                "You have too much looked at already; wait a moment.",
                {"Retry-After": "2"},
            )
        end = time.monotonic() + PATIENCE_SECONDS
        while not places.acquire(timeout=LOOK_SECONDS):
            if stop.is_set():
                raise superseded()
            if time.monotonic() > end:
                raise Problem(503, "busy", "The server is busy; try again.", {"Retry-After": "10"})
        try:
            yield
        finally:
            places.release()


def _sniff(here: Site, upload: Upload) -> dict[str, Any]:
    """{"info": ...} or {"error": ...} from a child process that may die of the file."""
    limits = here.settings.limits
    bounds = process.ResourceLimits(limits.sniff_bytes, int(limits.sniff_seconds), 0)
    with turn(here, upload.client, here.looks):
        ended = process.run(
            "sharpreel.web.sandbox.inspect", [path_of(here.settings, upload)], bounds,
            3 * limits.sniff_seconds,
        )  # fmt: skip
    if ended.code == 0:
        found: dict[str, Any] = json.loads(ended.stdout)
        return found
    logs.say(log_of, "sniff failed", upload=upload.id, code=ended.code, said=ended.stderr[-500:])
    return {"error": "reading it took too much time or memory, or broke the decoder."}


def check_size(settings: Settings, info: dict[str, Any]) -> None:
    """Refuse a video that is too long or too large.

    Raises:
        Problem: It is.
    """
    limits = settings.limits
    if info["width"] * info["height"] > limits.frame_pixels:
        words = (
            f"{info['width']}x{info['height']} is more than the {limits.frame_pixels} pixels of "
            "a frame that are taken here."
        )
        raise Problem(422, "too_many_pixels", words)
    seconds = info["seconds"] or (info["frames"] or 0) / (info["fps"] or 25)
    if seconds > limits.upload_seconds:
        words = f"{seconds:.0f} seconds are more than the {limits.upload_seconds:.0f} taken here."
        raise Problem(422, "too_long", words)


def remove(here: Site, upload_id: str) -> None:
    """Delete an upload; jobs made of it keep what they need.

    Raises:
        Problem: There is none, or it is being sent.
    """
    with writing(here, upload_id) as upload:
        path_of(here.settings, upload).unlink(missing_ok=True)
        here.store.remove_upload(upload.id)
