"""A program of ours in a process of its own, with limits, that dies with whoever started it.

    python -m sharpreel.web.child LIMITS MODULE ARGUMENT...

LIMITS is JSON; see `ResourceLimits`. Standard input is a pipe that nobody writes to: when its
other end
closes, however that process ended, this one is told to end too. Whatever a hostile file does to a
decoder, it does it here: to one job, with so much memory, and never to the server.
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
LOOK_SECONDS = 0.1
NICE = 10  # the site answers while films are made


@dataclass(frozen=True)
class ResourceLimits:
    """What a child may take; None: as much as its parent.

    Attributes:
        memory: Bytes of address space.
        cpu_seconds: Of all its threads together.
        file_bytes: Size of a file it writes.
        lock: A file that one child at a time holds; the next waits for it.
    """

    memory: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int | None = None
    lock: str | None = None


@dataclass(frozen=True)
class ProcessResult:
    """How a child ended: its exit code (negative: by this signal) and what it said."""

    code: int
    stdout: str
    stderr: str
    late: bool = False


def start(
    module: str, arguments: Sequence[object], bounds: ResourceLimits
) -> subprocess.Popen[str]:
    """Start `python -m module arguments...` within bounds."""
    words = [json.dumps(asdict(bounds)), module, *map(str, arguments)]
    return subprocess.Popen(
        [sys.executable, "-m", "sharpreel.web.sandbox.process", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", errors="replace",
    )  # fmt: skip


def run(
    module: str,
    arguments: Sequence[object],
    bounds: ResourceLimits,
    seconds: float,
    stop: threading.Event | None = None,
) -> ProcessResult:
    """Run it to its end, for so long, or until `stop` is set; `late` says that it was stopped."""
    with start(module, arguments, bounds) as process:
        done, late = threading.Event(), threading.Event()
        end = time.monotonic() + seconds

        def watch() -> None:
            while not done.wait(LOOK_SECONDS):
                if time.monotonic() > end or (stop is not None and stop.is_set()):
                    late.set()
                    process.kill()
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            out, errors = _read_all(process)
        finally:
            done.set()
            process.kill()
    return ProcessResult(process.returncode, out, errors, late.is_set())


def _read_all(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a child says until it ends; unlike `communicate`, its standard input stays open."""
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


def die_with_parent(seconds: float = GRACE_SECONDS) -> None:
    """End this process when standard input does: by SIGTERM, and after so long in any case."""

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
        os._exit(1)

    when_input_ends(end)


def when_input_ends(act: Callable[[], None]) -> None:
    """Call `act` when the other end of standard input is closed, in a thread."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        act()

    threading.Thread(target=watch, daemon=True).start()


def bind(bounds: ResourceLimits) -> FileLock | None:
    """Put this process within bounds; what is returned must be kept while they hold."""
    with suppress(AttributeError, OSError):
        os.nice(NICE)
    with suppress(OSError):  # of all processes, the kernel shall end this one for its memory
        Path("/proc/self/oom_score_adj").write_text("500")
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return None
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, bounds.memory),
        (resource.RLIMIT_CPU, bounds.cpu_seconds),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
    ]
    for kind, most in limits:
        if most is not None:
            hard = resource.getrlimit(kind)[1]
            allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
            with suppress(ValueError, OSError):  # not every system limits everything
                resource.setrlimit(kind, (allowed, allowed))
    if bounds.lock is None:
        return None
    lock = FileLock(Path(bounds.lock))
    lock.acquire()
    return lock


def main() -> None:
    bounds, module = ResourceLimits(**json.loads(sys.argv[1])), sys.argv[2]
    die_with_parent()
    held = bind(bounds)
    sys.argv = [module, *sys.argv[3:]]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        del held


if __name__ == "__main__":
    main()
