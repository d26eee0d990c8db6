"""A whole site as it is run, on loopback, and a client that knows nothing of its code."""

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
PLENTY = ("--limit", "requests_per_second=1000", "--limit", "burst=1000")


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a refusal, whose shape is checked on the way."""
        error = self.json["error"]
        assert {"code", "message", "request_id"} <= set(error)
        assert "Traceback" not in self.body.decode()
        return str(error["code"])


@dataclass
class Client:
    """Requests to one port; one connection for each."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, {**self.headers, **given})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask(
            method, API + path, body, {k.replace("_", "-"): headers[k] for k in headers}
        )

    def good(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of an answer that must not be a refusal."""
        answer = self.api(method, path, body, **headers)
        assert answer.status < 300, answer.body
        return answer.json if answer.body else None

    def upload(self, path: Path, name: str | None = None) -> Any:
        """A file as a finished upload."""
        data = path.read_bytes()
        made = self.good("POST", "/uploads", {"name": name or path.name, "size": len(data)})
        step = made["chunk_bytes"]
        for offset in range(0, len(data), step):
            self.good(
                "PATCH", f"/uploads/{made['id']}", data[offset : offset + step],
                Upload_Offset=str(offset),
            )  # fmt: skip
        return self.good("POST", f"/uploads/{made['id']}/finish", {})

    def job(self, upload: Any, **options: Any) -> Any:
        options.setdefault("model", "bicubic")
        return self.good("POST", "/jobs", {"upload": upload["id"], "options": options})

    def until(self, job: Any, true: Callable[[Any], bool]) -> Any:
        """The job as soon as this is true of it; an end that is not waited for is a failure."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            now = self.good("GET", f"/jobs/{job['id']}")
            if true(now):
                return now
            assert now["state"] not in ("done", "failed", "cancelled"), now
            time.sleep(0.05)
        raise AssertionError(f"in vain: {now}")

    def done(self, job: Any) -> Any:
        return self.until(job, lambda now: now["state"] == "done")


@dataclass
class Running:
    """A site that runs."""

    process: subprocess.Popen[str]
    client: Client
    said: list[str]
    log: list[str]

    def parts(self, word: str) -> list[psutil.Process]:
        """Its processes whose command line has this word, those of them that live."""
        found = []
        for one in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if word in one.cmdline() and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
            except psutil.NoSuchProcess:
                continue
        return found

    def stop(self) -> int:
        """End it in good order; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@contextmanager
def site(
    folder: Path,
    *options: object,
    env: Mapping[str, str] | None = None,
    command: Sequence[object] = (),
) -> Iterator[Running]:
    """`sharpreel serve` on a free port while the block runs; nothing of it is left afterwards.

    Args:
        command: What is run in its place.
    """
    words = command or [*COMMAND, "serve", "--port", "0", "--data-dir", folder, *options]
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr or []))
    reader.start()
    children: list[psutil.Process] = []
    try:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if "listens at" in line:
                break
        else:
            raise AssertionError(f"did not start: {said} {log[-5:]}")
        client = Client(int(said[-1].rsplit(":", 1)[-1]))
        wait_until(lambda: client.ask("GET", "/healthz").status == 200)
        yield Running(process, client, said, log)
        with_it = psutil.Process(process.pid) if process.poll() is None else None
        children = with_it.children(recursive=True) if with_it else []
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()
        for one in (left := still_there(children, 30)):
            one.kill()
        assert not left, left


def still_there(processes: list[psutil.Process], seconds: float = 60) -> list[psutil.Process]:
    """Those that have not ended after so long; one that waits to be reaped has."""

    def living() -> list[psutil.Process]:
        found = []
        for one in processes:
            try:
                if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
            except psutil.NoSuchProcess:
                continue
        return found

    end = time.monotonic() + seconds
    while living() and time.monotonic() < end:
        time.sleep(0.05)
    return living()


def wait_until(true: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """What this gives, as soon as that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := true():
                return found
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("in vain")
