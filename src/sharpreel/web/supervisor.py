"""`sharpreel serve`: starts one server and several workers, and restarts them when they end.

    supervisor ──> server (Gunicorn)        holds the listening socket, so no request is refused
       │  └─> workers: videos, samples          while the server restarts
       └ every second: restart ended processes, requeue their jobs

Every child has a pipe to the supervisor and ends when the supervisor does, for whatever reason.
The settings, including the token, are sent through this pipe, so they are in no process list.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from sharpreel.errors import ResumableError, UsageError
from sharpreel.web import logs
from sharpreel.web.jobs import service
from sharpreel.web.jobs.queue import LANES, JobQueue
from sharpreel.web.jobs.store import JobStore
from sharpreel.web.settings import Settings

POLL_SECONDS = 0.5
RECOVER_SECONDS = 2.0
EXPIRE_SECONDS = 60.0
STOP_SECONDS = 45.0
BIND_SECONDS = 20.0  # a killed site's server may take this long to release the port
STABLE_SECONDS = 10.0  # a process that ran this long is restarted at once
MAX_RESTART_DELAY = 30.0

log = logging.getLogger(__name__)


@dataclass
class ChildProcess:
    """A process of the site: how to start it, and its state.

    Attributes:
        name: Its role, such as "videos-0".
        arguments: Module and arguments for `python -m`; "NAME" stands for `instance`.
        inherits: File descriptor that it inherits.
        instance: Unique name of the running process; jobs of a worker are claimed under it.
        started: When it was started or ended last, on the monotonic clock.
        failures: Consecutive failures.
    """

    name: str
    arguments: list[str]
    inherits: int | None = None
    process: subprocess.Popen[bytes] | None = None
    instance: str = ""
    started: float = 0.0
    failures: int = 0

    def start(self, settings: Settings) -> None:
        self.instance = f"{self.name}-{secrets.token_hex(4)}"
        self.started = time.monotonic()
        arguments = [self.instance if text == "NAME" else text for text in self.arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            pass_fds=() if self.inherits is None else (self.inherits,),
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops the others
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(settings.to_json().encode() + b"\n")
            self.process.stdin.flush()

    @property
    def restart_delay(self) -> float:
        """Seconds before the next start; doubles with each consecutive failure."""
        return 0.0 if self.failures == 0 else min(2.0 ** (self.failures - 1), MAX_RESTART_DELAY)

    def close_pipe(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()


def serve(settings: Settings, on_ready: Callable[[str], object] | None = None) -> None:
    """Run the site until SIGTERM or SIGINT.

    Args:
        on_ready: Called with the site's address when the site listens.

    Raises:
        UsageError: The settings are not valid, or the port is in use.
        ResumableError: Another site uses this data folder.
    """
    settings.prepare()
    logs.configure("serve")
    os.environ.pop("SHARPREEL_TOKEN", None)  # no decoder needs it
    with exclusive_access(settings), contextlib.closing(listen(settings)) as listener:
        settings = replace(settings, port=listener.getsockname()[1])
        descriptor: int | None = listener.fileno()
        if settings.server != "gunicorn":  # not every system can pass a socket to a child
            listener.close()
            descriptor = None
        Supervisor(settings, descriptor).run(on_ready)


class Supervisor:
    """Starts the processes of a site, restarts them, and requeues the jobs of lost workers.

    Args:
        descriptor: The listening socket, which the server inherits; None: it opens its own.
    """

    def __init__(self, settings: Settings, descriptor: int | None) -> None:
        self._settings = settings
        self._store = JobStore(settings.database)
        self._queues = {lane: JobQueue(settings, lane) for lane in LANES.values()}
        self._stopping = threading.Event()
        socket_argument = [] if descriptor is None else [str(descriptor)]
        server = ChildProcess(
            "server", ["sharpreel.web.server", *socket_argument], inherits=descriptor
        )
        workers = [(LANES["upscale"], number) for number in range(settings.workers)]
        self._children = [server] + [
            ChildProcess(f"{lane}-{number}", ["sharpreel.web.jobs.worker", lane, "NAME"])
            for lane, number in [*workers, (LANES["sample"], 0)]
        ]

    def run(self, on_ready: Callable[[str], object] | None = None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *of: self._stopping.set())
        # No other process runs yet: jobs marked as running were left by a site that was killed.
        for job in self._store.jobs(states=["running"]):
            if job.worker is not None:
                with _log_errors():
                    service.recover_lost(self._store, self._queues, job.worker)
        with _log_errors():
            service.expire(self._settings, self._store)
        try:
            for child in self._children:
                child.start(self._settings)
            if on_ready is not None:
                on_ready(self.address)
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
        recover = expire = 0.0
        while not self._stopping.wait(POLL_SECONDS):
            for child in self._children:
                with _log_errors():
                    self._restart_if_ended(child)
            now = time.monotonic()
            if now >= recover:
                recover = now + RECOVER_SECONDS
                with _log_errors():
                    service.recover_lost(self._store, self._queues)
            if now >= expire:
                expire = now + min(EXPIRE_SECONDS, 3600 * self._settings.limits.keep_hours / 4)
                with _log_errors():
                    service.expire(self._settings, self._store)

    def _restart_if_ended(self, child: ChildProcess) -> None:
        """Restart a process that ended, after its delay, and requeue its jobs."""
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            ran = time.monotonic() - child.started
            child.failures = 1 if ran > STABLE_SECONDS else child.failures + 1
            logs.log_event(log, "process ended", logging.WARNING, part=child.instance, code=code)
            child.close_pipe()
            child.process = None
            child.started = time.monotonic()
            with _log_errors():  # otherwise they are found when their lease expires
                service.recover_lost(self._store, self._queues, child.instance)
        if time.monotonic() >= child.started + child.restart_delay - 1:
            child.start(self._settings)

    def _stop(self) -> None:
        """Terminate all processes, and kill those that do not end in time."""
        logs.log_event(log, "site stops")
        running = [c.process for c in self._children if c.process is not None]
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self._children:
            child.close_pipe()


@contextmanager
def _log_errors() -> Iterator[None]:
    """Log any error in the block: a full disk or a lost Redis may recover until the next round."""
    try:
        yield
    except Exception:
        log.exception("ignored until the next round")


@contextmanager
def exclusive_access(settings: Settings) -> Iterator[None]:
    """Hold the lock of the data folder during the block.

    Raises:
        ResumableError: Another site holds it.
    """
    with settings.lock_file.open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: no lock
            pass
        except OSError as e:
            raise ResumableError(
                f"data_dir={settings.data_dir}: another site runs on this folder. Stop it, or "
                "choose another folder."
            ) from e
        yield


def listen(settings: Settings) -> socket.socket:
    """The site's listening socket, inherited by the server process.

    Raises:
        UsageError: The address is not one of this machine, or the port is in use.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    deadline = time.monotonic() + BIND_SECONDS
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(512)
        except OSError as e:
            listener.close()
            if e.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise UsageError(
                    f"{settings.host}:{settings.port}: cannot listen on this address "
                    f"({e.strerror}). Choose another `port` or `host`."
                ) from e
            time.sleep(0.5)
        else:
            return listener
