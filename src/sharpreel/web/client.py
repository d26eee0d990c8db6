"""A client for a sharpreel site: upload a video, wait for the job, download the result.

Uses the standard library only. The state of each transfer is kept in the cache folder, by site,
file and options, so that the same call resumes: at the byte that the server has, at the running
job, or at the byte that was downloaded.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpreel._version import __version__
from sharpreel.errors import (
    FetchError,
    InputError,
    RemoteError,
    ResumableError,
    UsageError,
    write_error,
)
from sharpreel.system import download
from sharpreel.system.files import atomic_write

API = "/api/v1"
BLOCK = 1 << 20
TIMEOUT_SECONDS = 60
PLAN_TIMEOUT_SECONDS = 600
RETRY_SECONDS = 300  # a site may be unreachable for this long
FIRST_DELAY, MAX_DELAY = 0.5, 20.0  # seconds between two attempts
POLL_SECONDS = 1.0
TEMPORARY = frozenset({408, 429, 502, 503, 504})  # HTTP statuses after which a retry may succeed
ProgressCallback = Callable[[str, Mapping[str, Any]], None]  # event, its fields


@dataclass(frozen=True)
class ApiResponse:
    """Status, headers with lower-case names, and body of a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class SiteClient:
    """HTTP requests to a site, one connection each.

    Args:
        url: http(s)://HOST[:PORT][/PATH]; PATH is for a site behind a proxy.
        token: The site's access token.

    Raises:
        UsageError: The URL is not valid.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url}: write the site as http://HOST:PORT or https://HOST.")
        self.url = url.rstrip("/")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._reached = False
        self._headers = {"User-Agent": f"sharpreel/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def open(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request; the body of the response is not read yet."""
        target = urllib.parse.quote(f"{self._path}{path}", safe="/?=&%")
        connection.request(method, target, body, {**self._headers, **(headers or {})})
        return connection.getresponse()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> ApiResponse:
        """One request to the API, without retries.

        Raises:
            RemoteError: The site rejected it.
            OSError, http.client.HTTPException: The site cannot be reached.
        """
        connection = self.connect(timeout)
        try:
            raw = self.open(connection, method, API + path, body, headers)
            response = ApiResponse(
                raw.status,
                {name.lower(): value for name, value in raw.getheaders()},
                raw.read(),
            )
        finally:
            connection.close()
        self._reached = True
        if response.status >= 300:
            raise rejection(self.url, response)
        return response

    def call(
        self, method: str, path: str, values: Any = None, timeout: float = TIMEOUT_SECONDS
    ) -> Any:
        """A request with JSON in and out, retried while the site is busy or unreachable.

        Raises:
            RemoteError, FetchError, ResumableError: As `retry`.
        """
        body = None if values is None else json.dumps(values).encode()
        headers = {} if values is None else {"Content-Type": "application/json"}
        return self.retry(lambda: self.request(method, path, body, headers, timeout)).json()

    def retry(self, send: Callable[[], ApiResponse]) -> ApiResponse:
        """Result of `send`, which is called again while the site is busy or unreachable.

        Raises:
            RemoteError: The request was rejected.
            FetchError: The site was never reached.
            ResumableError: The site was unreachable for too long.
        """
        delay, deadline = FIRST_DELAY, time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return send()
            except RemoteError as e:
                temporary = e.status in TEMPORARY or e.code == "busy"
                if not temporary or time.monotonic() > deadline:
                    raise
            except (OSError, http.client.HTTPException) as e:
                if not self._reached:
                    raise FetchError(f"{self.url}: cannot be reached ({_reason(e)}).") from e
                if time.monotonic() > deadline:
                    raise unreachable(self) from e
            time.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)

    def find(self, path: str) -> Any:
        """As `call` with GET, or None if the site does not have it."""
        try:
            return self.call("GET", path)
        except RemoteError as e:
            if e.status != 404:
                raise
            return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def rejection(url: str, response: ApiResponse) -> RemoteError:
    """The error that a response stands for."""
    try:
        error = response.json()["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        message, code = f"answered {response.status}. Is this a sharpreel site?", "unknown"
    if response.status == 401:
        message = "this site requires its token: pass token=TEXT, or set SHARPREEL_TOKEN."
    return RemoteError(f"{url}: {message}", response.status, code)


def unreachable(site: SiteClient) -> ResumableError:
    return ResumableError(
        f"{site.url}: unreachable for too long. Run the same command again to resume."
    )


class TransferState:
    """Ids of the upload and the job of a transfer, in a file; not kept if it cannot be written."""

    def __init__(self, url: str, source: Path, options: Mapping[str, Any]) -> None:
        status = source.stat()
        key = [url, str(source.resolve()), status.st_size, status.st_mtime_ns, dict(options)]
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        self._path = download.cache_folder() / "remote" / f"{name}.json"
        self.values: dict[str, str] = {}
        with suppress(OSError, ValueError):
            self.values = dict(json.loads(self._path.read_text()))

    def save(self, **values: str) -> None:
        """Add values and write the file."""
        self.values |= values
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self._path, json.dumps(self.values))

    def remove(self, name: str) -> None:
        """Remove a value and write the file."""
        self.values.pop(name, None)
        self.save()

    def delete(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)


def upscale(
    site: SiteClient,
    source: Path,
    output: Path | None,
    options: Mapping[str, Any],
    on_progress: ProgressCallback,
    *,
    overwrite: bool = False,
) -> Path:
    """Upscale a video on a site and download the result; the same call resumes.

    Args:
        output: Output file or folder; default: next to the source, named by the site.
        options: Options of the API: model, scale, height, codec, crf, preset, container.
        on_progress: Called with "upload", "job" or "download", and the fields of the event.
        overwrite: Replace an existing file.

    Returns:
        The output file.

    Raises:
        InputError: The source cannot be read, or the site does not accept it as a video.
        RemoteError: The site rejected the request, or the job failed.
        ResumableError: The transfer was interrupted.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file.")
    state = TransferState(site.url, source, options)
    job = _find_job(site, state)
    if job is None:
        upload = _upload(site, source, state, on_progress)
        body = {"upload": upload, "options": dict(options)}
        job = site.call("POST", "/jobs", body, PLAN_TIMEOUT_SECONDS)
        state.save(job=job["id"])
    job = _wait_for_job(site, str(job["id"]), on_progress)
    if job["state"] != "done":
        state.remove("job")
        reason = job["error"] or "another client stopped it"
        raise RemoteError(f"{site.url}: the job is {job['state']}: {reason}", 200, job["state"])
    target = output or source.parent
    if target.is_dir():
        target /= Path(job["result"]["name"]).name
    if target.exists() and target.samefile(source):
        raise UsageError(f"output={target}: the output is the input. Choose another name.")
    if target.exists() and not overwrite:
        raise UsageError(f"output={target} exists. Pass overwrite=True or choose another name.")
    _download(site, job, target, on_progress)
    state.delete()
    return target


def _find_job(site: SiteClient, state: TransferState) -> Any:
    """The job of an earlier call, unless it failed."""
    if "job" not in state.values:
        return None
    job = site.find(f"/jobs/{state.values['job']}")
    if job is None or job["state"] in ("failed", "cancelled"):
        state.remove("job")
        return None
    return job


def _upload(
    site: SiteClient, source: Path, state: TransferState, on_progress: ProgressCallback
) -> str:
    """Upload the source, or the rest of it, and have it checked; returns the id of the upload."""
    size = source.stat().st_size
    upload = _find_or_begin_upload(site, source, size, state)
    path = f"/uploads/{upload['id']}"
    if upload["state"] == "receiving":
        _send_chunks(site, path, source, upload, on_progress)
    on_progress("upload", {"bytes": size, "total": size, "resumed": int(upload["offset"])})
    digest = download.sha256_of(source)
    try:
        finished = site.call("POST", f"{path}/finish", {"sha256": digest}, PLAN_TIMEOUT_SECONDS)
    except RemoteError as e:
        if e.code in ("not_a_video", "too_long", "too_many_pixels"):
            raise InputError(str(e)) from e
        raise
    if finished["sha256"] != digest:
        raise FetchError(f"{site.url}: the upload does not match {source}. Run the command again.")
    return str(upload["id"])


def _find_or_begin_upload(site: SiteClient, source: Path, size: int, state: TransferState) -> Any:
    """The upload of an earlier call, or a new one."""
    if "upload" in state.values:
        upload = site.find(f"/uploads/{state.values['upload']}")
        if upload is not None and upload["state"] != "refused" and upload["size"] == size:
            return upload
    if size == 0:
        raise InputError(f"{source}: the file is empty (0 bytes).")
    upload = site.call("POST", "/uploads", {"name": source.name, "size": size})
    state.save(upload=upload["id"])
    return upload


def _send_chunks(
    site: SiteClient,
    path: str,
    source: Path,
    upload: Mapping[str, Any],
    on_progress: ProgressCallback,
) -> None:
    """Send the missing bytes of an upload."""
    size, resumed = int(upload["size"]), int(upload["offset"])
    offset = resumed
    with source.open("rb") as file:
        while offset < size:
            on_progress("upload", {"bytes": offset, "total": size, "resumed": resumed})
            file.seek(offset)
            offset = _send_chunk(site, path, offset, file.read(int(upload["chunk_bytes"])))


def _send_chunk(site: SiteClient, path: str, offset: int, chunk: bytes) -> int:
    """Send bytes; returns the offset of the server, which may differ from ours."""

    def send() -> ApiResponse:
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        try:
            return site.request("PATCH", path, chunk, headers)
        except RemoteError as e:
            if e.code not in ("wrong_offset", "busy", "cut_off"):
                raise
        except (OSError, http.client.HTTPException):
            time.sleep(0.5)  # the site may still be reading what arrived
        return site.request("GET", path)

    return int(site.retry(send).json()["offset"])


def _wait_for_job(site: SiteClient, job_id: str, on_progress: ProgressCallback) -> Any:
    """The job when it has ended; reports each change of it."""
    previous = None
    while True:
        job = site.call("GET", f"/jobs/{job_id}")
        if job != previous:
            on_progress("job", job)
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        previous = job
        time.sleep(POLL_SECONDS)


def _download(
    site: SiteClient, job: Mapping[str, Any], target: Path, on_progress: ProgressCallback
) -> None:
    """Download the result to a partial file, verify it, and rename it."""
    result = job["result"]
    part = target.with_name(f"{target.name}.part")
    hash_file = target.with_name(f"{target.name}.part.sha256")
    if not (hash_file.is_file() and hash_file.read_text() == result["sha256"]):
        part.unlink(missing_ok=True)
        try:
            hash_file.write_text(result["sha256"])
        except OSError as e:
            raise write_error(target, e) from e
    path = f"/jobs/{job['id']}/result"
    delay, deadline = FIRST_DELAY, time.monotonic() + RETRY_SECONDS
    while (have := part.stat().st_size if part.exists() else 0) < result["bytes"]:
        received = 0
        with suppress(OSError, http.client.HTTPException):
            received = _download_rest(site, path, part, have, result["bytes"], on_progress)
        if received:
            delay, deadline = FIRST_DELAY, time.monotonic() + RETRY_SECONDS
        elif time.monotonic() > deadline:
            raise unreachable(site)
        else:
            time.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)
    if download.sha256_of(part) != result["sha256"]:
        part.unlink()
        raise FetchError(f"{site.url}: checksum mismatch of the result. Run the command again.")
    os.replace(part, target)
    hash_file.unlink(missing_ok=True)


def _download_rest(
    site: SiteClient,
    path: str,
    part: Path,
    have: int,
    size: int,
    on_progress: ProgressCallback,
) -> int:
    """Append the bytes after `have` to the partial file; returns how many arrived."""
    connection = site.connect(TIMEOUT_SECONDS)
    received = 0
    try:
        response = site.open(connection, "GET", API + path, headers={"Range": f"bytes={have}-"})
        if response.status in TEMPORARY:
            return 0
        if response.status not in (200, 206):
            raise rejection(site.url, ApiResponse(response.status, {}, response.read()))
        for block in iter(lambda: response.read(BLOCK), b""):
            _append(part, block, from_start=response.status == 200 and received == 0)
            received += len(block)
            on_progress("download", {"bytes": min(have + received, size), "total": size})
    finally:
        connection.close()
    return received


def _append(part: Path, block: bytes, from_start: bool) -> None:
    try:
        with part.open("wb" if from_start else "ab") as file:
            file.write(block)
    except OSError as e:
        raise write_error(part, e) from e
