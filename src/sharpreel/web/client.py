"""A site as a program sees it: send a film, wait, take the result. With the standard library alone.

What is under way is remembered in the cache folder, by site, file and options, so the same command
goes on where it was: at the byte the server has, at the job that runs, at the byte that came back.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
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
PATIENCE_SECONDS = 300  # that a site may be away before this gives up
LONGEST_PAUSE = 20.0
POLL_SECONDS = 1.0
PASSING = frozenset({408, 429, 502, 503, 504})
Tell = Callable[[str, Mapping[str, Any]], None]  # event, its fields


@dataclass(frozen=True)
class Answer:
    """What came back: the status, headers with lower-case names, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class SiteClient:
    """A site, spoken to over one connection at a time.

    Args:
        url: http(s)://HOST[:PORT][/PATH], where PATH is where a proxy has it.
        token: What the site was started with.

    Raises:
        UsageError: Not such a URL.
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
        """Send a request; the answer's body is still to be read."""
        target = urllib.parse.quote(f"{self._path}{path}", safe="/?=&%")
        connection.request(method, target, body, {**self._headers, **(headers or {})})
        return connection.getresponse()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """One request below the API, with an answer that was not a refusal.

        Raises:
            RemoteError: It was.
            OSError, http.client.HTTPException: The site cannot be reached.
        """
        connection = self.connect(timeout)
        try:
            response = self.open(connection, method, API + path, body, headers)
            found = Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()
        self._reached = True
        if found.status >= 300:
            raise refusal(self.url, found)
        return found

    def call(
        self, method: str, path: str, values: Any = None, timeout: float = TIMEOUT_SECONDS
    ) -> Any:
        """As `ask`, JSON in and out, tried again while the site is busy or away for a moment."""
        body = None if values is None else json.dumps(values).encode()
        headers = {} if values is None else {"Content-Type": "application/json"}
        return self.insist(lambda: self.ask(method, path, body, headers, timeout)).json()

    def insist(self, act: Callable[[], Answer]) -> Answer:
        """What `act` gives, tried again while the site is busy or cannot be reached.

        Raises:
            RemoteError: It was refused for good.
            FetchError: The site was never there.
        ResumableError: It was away for too long.
        """
        pause, end = 0.5, time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return act()
            except RemoteError as e:
                passes = e.status in PASSING or e.code == "busy"
                if not passes or time.monotonic() > end:
                    raise
            except (OSError, http.client.HTTPException) as e:
                if not self._reached:
                    raise FetchError(f"{self.url}: cannot be reached ({_words(e)}).") from e
                if time.monotonic() > end:
                    raise away(self) from e
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def refusal(url: str, answer: Answer) -> RemoteError:
    """A refusal as an error."""
    try:
        error = answer.json()["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        message, code = f"answered {answer.status}. Is this a sharpreel site?", "unknown"
    if answer.status == 401:
        message = "needs its token: give --token, or set SHARPREEL_TOKEN."
    return RemoteError(f"{url}: {message}", answer.status, code)


def away(site: SiteClient) -> ResumableError:
    return ResumableError(f"{site.url}: away for too long. Give the same command again to go on.")


class Memory:
    """What is under way, in a file of its own; nothing when that cannot be written."""

    def __init__(self, url: str, source: Path, options: Mapping[str, Any]) -> None:
        status = source.stat()
        what = [url, str(source.resolve()), status.st_size, status.st_mtime_ns, dict(options)]
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
        self._path = download.cache_folder() / "remote" / f"{name}.json"
        self.values: dict[str, str] = {}
        with suppress(OSError, ValueError):
            self.values = dict(json.loads(self._path.read_text()))

    def keep(self, **values: str) -> None:
        self.values |= values
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self._path, json.dumps(self.values))

    def forget(self, *names: str) -> None:
        """Forget these, or everything."""
        if names:
            self.values = {k: v for k, v in self.values.items() if k not in names}
            self.keep()
        else:
            self._path.unlink(missing_ok=True)


def upscale(
    site: SiteClient,
    source: Path,
    output: Path | None,
    options: Mapping[str, Any],
    tell: Tell,
    *,
    overwrite: bool = False,
) -> Path:
    """Have a film made by a site, and bring the result.

    Args:
        output: The file to make, or a folder; by default beside the source, as the site names it.
        options: Of the API: model, scale, height, codec, crf, preset, container.
        tell: Told of "upload", "job", "download" as they go.
        overwrite: Replace an existing file.

    Returns:
        The file.

    Raises:
        InputError: The source cannot be read, or the site takes it for no video.
        RemoteError: The site refused, or the job failed.
        ResumableError: On the way; the same call goes on.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file.")
    memory = Memory(site.url, source, options)
    job = _known_job(site, memory)
    if job is None:
        upload = _send(site, source, memory, tell)
        job = site.call(
            "POST", "/jobs", {"upload": upload, "options": dict(options)}, PLAN_TIMEOUT_SECONDS
        )
        memory.keep(job=job["id"])
    for now in _progress(site, job["id"]):
        tell("job", now)
        job = now
    if job["state"] != "done":
        memory.forget("job")
        raise RemoteError(
            f"{site.url}: the job is {job['state']}: {job['error'] or 'somebody stopped it'}",
            200, job["state"],
        )  # fmt: skip
    target = output or source.parent
    if target.is_dir():
        target /= Path(job["result"]["name"]).name
    if target.exists() and target.samefile(source):
        raise UsageError(f"{target}: the output is the input. Choose another name with -o.")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists. Give --overwrite or another -o.")
    _bring(site, job, target, tell)
    memory.forget()
    return target


def _known_job(site: SiteClient, memory: Memory) -> Any:
    """The job of an earlier call, where it still is one to wait for."""
    if "job" not in memory.values:
        return None
    try:
        job = site.call("GET", f"/jobs/{memory.values['job']}")
    except RemoteError as e:
        if e.status != 404:
            raise
        job = None
    if job is None or job["state"] in ("failed", "cancelled"):
        memory.forget("job")
        return None
    return job


def _send(site: SiteClient, source: Path, memory: Memory, tell: Tell) -> str:
    """The id of the source's upload, whole and checked."""
    size = source.stat().st_size
    upload = None
    if "upload" in memory.values:
        try:
            upload = site.call("GET", f"/uploads/{memory.values['upload']}")
        except RemoteError as e:
            if e.status != 404:
                raise
    if upload is None or upload["state"] == "refused" or upload["size"] != size:
        if size == 0:
            raise InputError(f"{source}: the file is empty (0 bytes).")
        upload = site.call("POST", "/uploads", {"name": source.name, "size": size})
        memory.keep(upload=upload["id"])
    place, chunk = f"/uploads/{upload['id']}", int(upload["chunk_bytes"])
    offset, state = int(upload["offset"]), upload["state"]
    resumed = offset
    with source.open("rb") as file:
        while state == "receiving" and offset < size:
            tell("upload", {"bytes": offset, "total": size, "resumed": resumed})
            file.seek(offset)
            offset = _send_piece(site, place, offset, file.read(chunk))
    tell("upload", {"bytes": size, "total": size, "resumed": resumed})
    digest = download.sha256_of(source)
    try:
        finished = site.call("POST", f"{place}/finish", {"sha256": digest}, PLAN_TIMEOUT_SECONDS)
    except RemoteError as e:
        if e.code in ("not_a_video", "too_long", "too_many_pixels"):
            raise InputError(str(e)) from e
        raise
    if finished["sha256"] != digest:
        raise FetchError(f"{site.url}: what arrived is not {source}. Give the command again.")
    return str(upload["id"])


def _send_piece(site: SiteClient, place: str, offset: int, piece: bytes) -> int:
    """Send bytes and say how many the site has in all; it may have other ones than we think."""

    def send() -> Answer:
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        try:
            return site.ask("PATCH", place, piece, headers)
        except RemoteError as e:
            if e.code not in ("wrong_offset", "busy", "cut_off"):
                raise
        except (OSError, http.client.HTTPException):
            time.sleep(0.5)  # the site may still be reading what came
        return site.ask("GET", place)

    return int(site.insist(send).json()["offset"])


def _progress(site: SiteClient, job_id: str) -> Iterator[Any]:
    """The job whenever it changed, until it ends."""
    before = None
    while True:
        job = site.call("GET", f"/jobs/{job_id}")
        if job != before:
            yield job
        if job["state"] in ("done", "failed", "cancelled"):
            return
        before = job
        time.sleep(POLL_SECONDS)


def _bring(site: SiteClient, job: Mapping[str, Any], target: Path, tell: Tell) -> None:
    """Download the result beside its name, check it, and give it its name."""
    result = job["result"]
    part = target.with_name(f"{target.name}.part")
    stamp = target.with_name(f"{target.name}.part.sha256")
    if not (stamp.is_file() and stamp.read_text() == result["sha256"]):
        part.unlink(missing_ok=True)
        try:
            stamp.write_text(result["sha256"])
        except OSError as e:
            raise write_error(target, e) from e
    path = f"/jobs/{job['id']}/result"
    pause, end = 0.5, time.monotonic() + PATIENCE_SECONDS
    while (have := part.stat().st_size if part.exists() else 0) < result["bytes"]:
        came = 0
        with suppress(OSError, http.client.HTTPException):
            came = _bring_more(site, path, part, have, result["bytes"], tell)
        if came:
            pause, end = 0.5, time.monotonic() + PATIENCE_SECONDS
        elif time.monotonic() > end:
            raise away(site)
        else:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    if download.sha256_of(part) != result["sha256"]:
        part.unlink()
        raise FetchError(f"{site.url}: what came is not the result. Give the command again.")
    os.replace(part, target)
    stamp.unlink(missing_ok=True)


def _bring_more(site: SiteClient, path: str, part: Path, have: int, size: int, tell: Tell) -> int:
    """Append what comes to the part; how many bytes that was."""
    connection = site.connect(TIMEOUT_SECONDS)
    came = 0
    try:
        response = site.open(connection, "GET", API + path, headers={"Range": f"bytes={have}-"})
        if response.status in PASSING:
            return 0
        if response.status not in (200, 206):
            raise refusal(site.url, Answer(response.status, {}, response.read()))
        for block in iter(lambda: response.read(BLOCK), b""):
            _append(part, block, anew=response.status == 200 and came == 0)
            came += len(block)
            tell("download", {"bytes": min(have + came, size), "total": size})
    finally:
        connection.close()
    return came


def _append(part: Path, block: bytes, anew: bool) -> None:
    try:
        with part.open("wb" if anew else "ab") as file:
            file.write(block)
    except OSError as e:
        raise write_error(part, e) from e
