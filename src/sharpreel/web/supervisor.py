"""`sharpreel serve`: one server and some workers, started and watched by this process.

    serve ──> server (Gunicorn)        holds the listening socket, so no request is refused
       │  └─> workers: films, samples     while the server is started anew
       └ every second: who died is started again, their jobs go back into the queue

Every child has a pipe to this process and ends when that does, whatever killed it. The settings,
the token among them, go through the same pipe and stand in no list of processes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from sharpreel.errors import ResumableError, UsageError
from sharpreel.web import logs
from sharpreel.web.jobs import service
from sharpreel.web.jobs.queue import LANES, Queue, lanes
from sharpreel.web.jobs.store import JobStore
from sharpreel.web.settings import Settings

LOOK_SECONDS = 0.5
FIND_SECONDS = 2.0
EXPIRE_SECONDS = 60.0
STOP_SECONDS = 45.0
BIND_SECONDS = 20.0  # that the server of a site which was killed may take to let go of the port
CALM_SECONDS = 10.0  # a process that ran so long is started again at once
LONGEST_PAUSE = 30.0

log_of = logging.getLogger("sharpreel.web.supervisor")


@dataclass
class Part:
    """A process of the site: how it is started, and how that went."""

    name: str
    words: list[str]
    inherits: int | None = None
    process: subprocess.Popen[bytes] | None = None
    alias: str = ""
    began: float = 0.0
    failures: int = 0

    def start(self, settings: Settings) -> None:
        self.alias = f"{self.name}-{secrets.token_hex(4)}"
        self.began = time.monotonic()
        words = [self.alias if word == "NAME" else word for word in self.words]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.PIPE,
            pass_fds=() if self.inherits is None else (self.inherits,),
            start_new_session=True,  # Ctrl-C is for this process, which tells the others
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(settings.to_json().encode() + b"\n")
            self.process.stdin.flush()

    @property
    def pause(self) -> float:
        """Seconds to wait before the next start, more after each start that went wrong."""
        return 0.0 if self.failures == 0 else min(2.0 ** (self.failures - 1), LONGEST_PAUSE)


def serve(settings: Settings, ready: Any = None) -> None:
    """Run the site until SIGTERM or SIGINT.

    Args:
        ready: Called with the site's address when it listens.

    Raises:
        UsageError: The settings make no site, or the port is taken.
        ResumableError: Another site runs on this data folder.
    """
    settings.prepare()
    logs.set_up("serve")
    os.environ.pop("SHARPREEL_TOKEN", None)  # no decoder needs to know it
    with alone(settings), contextlib.closing(listen(settings)) as listener:
        settings = replace(settings, port=listener.getsockname()[1])
        descriptor: int | None = listener.fileno()
        if settings.server != "gunicorn":  # a socket cannot be handed on everywhere
            listener.close()
            descriptor = None
        _Site(settings, descriptor).run(ready)


class _Site:
    def __init__(self, settings: Settings, descriptor: int | None) -> None:
        self._settings = settings
        self._store = JobStore(settings.database)
        self._queues = {lane: Queue(settings, lane) for lane in lanes()}
        self._stopping = threading.Event()
        handed = [] if descriptor is None else [str(descriptor)]
        server = Part("server", ["sharpreel.web.server", *handed], inherits=descriptor)
        samples = LANES["sample"]
        workers = [(LANES["upscale"], number) for number in range(settings.workers)]
        self._parts = [server] + [
            Part(f"{lane}-{number}", ["sharpreel.web.jobs.worker", lane, "NAME"])
            for lane, number in [*workers, (samples, 0)]
        ]

    def run(self, ready: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *of: self._stopping.set())
        # Nobody else is here: whatever is said to run was left by a site that was killed.
        for job in self._store.jobs("state = 'running'"):
            if job.worker is not None:
                with _whatever_fails():
                    service.find_lost(self._store, self._queues, job.worker)
        with _whatever_fails():
            service.expire(self._settings, self._store)
        try:
            for part in self._parts:
                part.start(self._settings)
            if ready is not None:
                ready(self.address)
            self._watch()
        finally:
            self._stop()
            for queue in self._queues.values():
                queue.close()
            self._store.close()

    @property
    def address(self) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http://{host}:{self._settings.port}"

    def _watch(self) -> None:
        find = expire = 0.0
        while not self._stopping.wait(LOOK_SECONDS):
            for part in self._parts:
                with _whatever_fails():
                    self._look_after(part)
            now = time.monotonic()
            if now >= find:
                find = now + FIND_SECONDS
                with _whatever_fails():
                    service.find_lost(self._store, self._queues)
            if now >= expire:
                expire = now + min(EXPIRE_SECONDS, 3600 * self._settings.limits.keep_hours / 4)
                with _whatever_fails():
                    service.expire(self._settings, self._store)

    def _look_after(self, part: Part) -> None:
        """Start a process again that ended, and let its jobs go."""
        if part.process is not None:
            code = part.process.poll()
            if code is None:
                return
            ran = time.monotonic() - part.began
            part.failures = 1 if ran > CALM_SECONDS else part.failures + 1
            logs.say(log_of, "process ended", logging.WARNING, part=part.alias, code=code)
            _close(part)
            part.process = None
            part.began = time.monotonic()
            with _whatever_fails():  # else they are found when their lease has run out
                service.find_lost(self._store, self._queues, part.alias)
        if time.monotonic() >= part.began + part.pause - 1:
            part.start(self._settings)

    def _stop(self) -> None:
        """Tell all processes to end, and see to it."""
        logs.say(log_of, "site ends")
        running = [p for p in self._parts if p.process is not None]
        for part in running:
            assert part.process is not None
            with suppress(ProcessLookupError):
                part.process.terminate()
        end = time.monotonic() + STOP_SECONDS
        for part in running:
            assert part.process is not None
            try:
                part.process.wait(max(end - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                part.process.kill()
                part.process.wait()
            _close(part)


@contextmanager
def _whatever_fails() -> Iterator[None]:
    """Log what fails in the block: a full disk or a lost Redis passes, and the next round tries."""
    try:
        yield
    except Exception:
        log_of.exception("the site goes on without this")


def _close(part: Part) -> None:
    if part.process is not None and part.process.stdin is not None:
        with suppress(BrokenPipeError):
            part.process.stdin.close()


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """The only site on this data folder while the block runs.

    Raises:
        ResumableError: Another one is there.
    """
    with (settings.data_dir / "site.lock").open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: no lock
            pass
        except OSError as e:
            raise ResumableError(
                f"{settings.data_dir}: another site runs on this folder. Stop it, or give "
                "--data-dir."
            ) from e
        yield


def listen(settings: Settings) -> socket.socket:
    """The socket that the site listens on, inherited by the server process.

    Raises:
        UsageError: The address is not ours, or taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    end = time.monotonic() + BIND_SECONDS
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(512)
        except OSError as e:
            listener.close()
            if e.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise UsageError(
                    f"{settings.host}:{settings.port}: cannot listen there ({e.strerror}). "
                    "Choose another --port or --host."
                ) from e
            time.sleep(0.5)
        else:
            return listener
