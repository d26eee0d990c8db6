"""A site as `sharpreel serve` runs it, on loopback, and a client that knows nothing of its code."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.terminal import COMMAND, DEADLINE

API = "/api/v1"
NO_RATE_LIMITS = ("--limit", "requests_per_second=1000", "--limit", "burst=1000")
SHORT_SEGMENTS = ("--segment-seconds", "0.4")


@dataclass(frozen=True)
class Response:
    """A response of the site."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error; its form is checked, too."""
        error = self.json["error"]
        assert {"code", "message", "request_id"} <= set(error)
        assert "Traceback" not in self.body.decode()
        return str(error["code"])


@dataclass
class Client:
    """Requests to one port, one connection each."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, {**self.headers, **given})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, names, response.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """A request to the API; underscores in names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request(method, API + path, body, named)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of a response, which must not be an error."""
        response = self.api(method, path, body, **headers)
        assert response.status < 300, response.body
        return response.json if response.body else None

    def upload(self, path: Path, name: str | None = None) -> Any:
        """Upload a file, and finish the upload."""
        data = path.read_bytes()
        begun = self.call("POST", "/uploads", {"name": name or path.name, "size": len(data)})
        step = begun["chunk_bytes"]
        for offset in range(0, len(data), step):
            chunk = data[offset : offset + step]
            self.call("PATCH", f"/uploads/{begun['id']}", chunk, Upload_Offset=str(offset))
        return self.call("POST", f"/uploads/{begun['id']}/finish", {})

    def job(self, upload: Any, **options: Any) -> Any:
        """Start a job, by default with bicubic."""
        options.setdefault("model", "bicubic")
        return self.call("POST", "/jobs", {"upload": upload["id"], "options": options})

    def wait_for(self, job: Any, condition: Callable[[Any], bool]) -> Any:
        """The job as soon as it meets a condition; it must not end before."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            now = self.call("GET", f"/jobs/{job['id']}")
            if condition(now):
                return now
            assert now["state"] not in ("done", "failed", "cancelled"), now
            time.sleep(0.05)
        raise AssertionError(f"waited in vain: {now}")

    def wait_until_done(self, job: Any) -> Any:
        return self.wait_for(job, lambda now: now["state"] == "done")


def in_the_middle(job: Any) -> bool:
    """Has the job finished some segments, but not all?"""
    return bool(job["state"] == "running" and job["segment"] >= 2)


@dataclass
class RunningSite:
    """A running site.

    Attributes:
        output: Lines of its standard output up to its address.
        log: Lines of its standard error so far.
    """

    process: subprocess.Popen[str]
    client: Client
    output: list[str]
    log: list[str]

    def processes(self, argument: str) -> list[psutil.Process]:
        """Its living processes with this argument on their command line."""
        matching = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if argument in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    matching.append(child)
            except psutil.NoSuchProcess:
                continue
        return matching

    def stop(self) -> int:
        """Stop it with SIGTERM; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@contextmanager
def running_site(
    folder: Path,
    *options: object,
    env: Mapping[str, str] | None = None,
    command: Sequence[object] = (),
) -> Iterator[RunningSite]:
    """`sharpreel serve` on a free port during the block; no process of it is left afterwards.

    Args:
        command: A command to run instead.
    """
    arguments = command or [*COMMAND, "serve", "--port", "0", "--data-dir", folder, *options]
    process = subprocess.Popen(
        list(map(str, arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr or []))
    reader.start()
    children: list[psutil.Process] = []
    try:
        output = []
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line.strip())
            if "listens at" in line:
                break
        else:
            raise AssertionError(f"did not start: {output} {log[-5:]}")
        client = Client(int(output[-1].rsplit(":", 1)[-1]))
        wait_until(lambda: client.request("GET", "/healthz").status == 200)
        yield RunningSite(process, client, output, log)
        parent = psutil.Process(process.pid) if process.poll() is None else None
        children = parent.children(recursive=True) if parent else []
    finally:
        _stop(process)
        reader.join()
        assert process.stderr is not None
        process.stderr.close()
        left = survivors(children, 30)
        for child in left:
            child.kill()
        assert not left, left


def _stop(process: subprocess.Popen[str]) -> None:
    """Terminate a site, and kill it if it does not stop."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.stdout is not None
    process.stdout.close()


def survivors(processes: list[psutil.Process], seconds: float = 60) -> list[psutil.Process]:
    """Processes that are still alive after at most `seconds`; a zombie is not."""

    def living() -> list[psutil.Process]:
        alive = []
        for one in processes:
            try:
                if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                    alive.append(one)
            except psutil.NoSuchProcess:
                continue
        return alive

    end = time.monotonic() + seconds
    while living() and time.monotonic() < end:
        time.sleep(0.05)
    return living()


def wait_until(condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """The value of `condition` as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")
