"""Run a module in a resource-limited child process tied to its parent.

    python -m sharpreel.web.sandbox.process LIMITS MODULE ARGUMENT...

LIMITS is JSON; see `ResourceLimits`. Standard input is a pipe that nobody writes to: when its
other end closes, however the parent ended, this process ends too. A file that exploits or crashes
a decoder affects one job, within these limits, and never the server.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sharpreel.system.files import FileLock

GRACE_SECONDS = 20.0
POLL_SECONDS = 0.1
NICE = 10  # the site stays responsive while videos are upscaled


@dataclass(frozen=True)
class ResourceLimits:
    """Limits of a child process; None: the same as its parent.

    Attributes:
        memory: Address space in bytes.
        cpu_seconds: CPU time of all its threads together.
        file_bytes: Maximum size of a file it writes.
        lock: A file that one child holds at a time; the next child waits for it.
    """

    memory: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int | None = None
    lock: str | None = None


@dataclass(frozen=True)
class ProcessResult:
    """How a child process ended.

    Attributes:
        exit_code: Negative: the signal that ended it.
        stopped: It was stopped from outside, by the time limit or the stop event.
    """

    exit_code: int
    stdout: str
    stderr: str
    stopped: bool = False


def start(
    module: str, arguments: Sequence[object], limits: ResourceLimits
) -> subprocess.Popen[str]:
    """Start `python -m module arguments...` within limits."""
    command = [json.dumps(asdict(limits)), module, *map(str, arguments)]
    return subprocess.Popen(
        [sys.executable, "-m", "sharpreel.web.sandbox.process", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def run(
    module: str,
    arguments: Sequence[object],
    limits: ResourceLimits,
    timeout_seconds: float,
    stop: threading.Event | None = None,
) -> ProcessResult:
    """Run a module to its end, for at most `timeout_seconds`, or until `stop` is set."""
    with start(module, arguments, limits) as process:
        done, stopped = threading.Event(), threading.Event()
        deadline = time.monotonic() + timeout_seconds

        def watch() -> None:
            while not done.wait(POLL_SECONDS):
                if time.monotonic() > deadline or (stop is not None and stop.is_set()):
                    stopped.set()
                    process.kill()
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            out, errors = _read_all(process)
        finally:
            done.set()
            process.kill()
    return ProcessResult(process.returncode, out, errors, stopped.is_set())


def _read_all(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Output of a child until it ends; unlike `communicate`, its standard input stays open."""
    streams = [process.stdout, process.stderr]
    texts = ["", ""]

    def read(index: int) -> None:
        stream = streams[index]
        assert stream is not None
        texts[index] = stream.read()

    threads = [threading.Thread(target=read, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.wait()
    return texts[0], texts[1]


def exit_with_parent(grace_seconds: float = GRACE_SECONDS) -> None:
    """End this process when standard input closes: by SIGTERM, and by force after the grace."""

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os._exit(1)

    call_when_stdin_closes(end)


def call_when_stdin_closes(callback: Callable[[], None]) -> None:
    """Call `callback` in a thread when the other end of standard input is closed."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        callback()

    threading.Thread(target=watch, daemon=True).start()


def apply_limits(limits: ResourceLimits) -> FileLock | None:
    """Apply limits to this process; the returned lock must be kept while it works."""
    with suppress(AttributeError, OSError):
        os.nice(NICE)
    with suppress(OSError):  # when memory runs out, the kernel ends this process first
        Path("/proc/self/oom_score_adj").write_text("500")
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return None
    maxima = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
    ]
    for kind, maximum in maxima:
        if maximum is not None:
            hard = resource.getrlimit(kind)[1]
            allowed = maximum if hard == resource.RLIM_INFINITY else min(maximum, hard)
            with suppress(ValueError, OSError):  # not every system supports every limit
                resource.setrlimit(kind, (allowed, allowed))
    if limits.lock is None:
        return None
    lock = FileLock(Path(limits.lock))
    lock.acquire()
    return lock


def main() -> None:
    limits, module = ResourceLimits(**json.loads(sys.argv[1])), sys.argv[2]
    exit_with_parent()
    lock = apply_limits(limits)
    sys.argv = [module, *sys.argv[3:]]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        del lock


if __name__ == "__main__":
    main()
