"""The command as a user runs it: in a process of its own, killed and watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEADLINE = 120  # seconds; a machine that trains beside the tests is slow
COMMAND = [sys.executable, "-m", "sharpreel"]


def sharpreel(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `sharpreel ...` to its end."""
    return python("-m", "sharpreel", *arguments, cwd=cwd)


def python(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        cwd=cwd,
    )


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`sharpreel ...` while it runs; killed at the end, whatever happened."""
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], event: str, times: int = 1) -> list[dict[str, Any]]:
    """Read --json lines until this event has come `times` times; all events so far."""
    seen: list[dict[str, Any]] = []
    assert process.stdout is not None
    for line in process.stdout:
        seen.append(json.loads(line))
        if sum(one["event"] == event for one in seen) == times:
            return seen
    assert process.stderr is not None
    raise AssertionError(f"ended without {times} x {event}: {seen[-3:]} {process.stderr.read()}")


def events(text: str) -> list[dict[str, Any]]:
    """The objects of --json output; every line must be one."""
    return [json.loads(line) for line in text.splitlines()]


def suicidal_run(event: str, frames: int, *arguments: object, **options: object) -> int:
    """Run `upscale_video` in a process that SIGKILLs itself inside a progress callback.

    Args:
        event: Of the `Progress` at which it dies, the first one with at least `frames` frames.

    Returns:
        Its exit code, -9 when it got there.
    """
    program = f"""
import os, signal, sharpreel
def die(progress):
    if progress.event == {event!r} and progress.frames >= {frames}:
        os.kill(os.getpid(), signal.SIGKILL)
sharpreel.upscale_video(*{[str(a) for a in arguments]!r}, on_progress=die, **{options!r})
"""
    return python("-c", program).returncode


def peak_memory_mib(program: str) -> float:
    """Peak resident memory of a Python program, in MiB, measured by itself at its end."""
    done = python(
        "-c",
        f"{program}\nimport resource\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)",
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.splitlines()[-1])


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
