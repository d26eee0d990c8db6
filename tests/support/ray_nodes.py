"""Ray nodes on this machine, and runs on them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from sharpreel.cluster.ray_cluster import Cluster
from sharpreel.cluster.runner import runner_on
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from sharpreel.pipeline.stages import Progress, Result
from sharpreel.upscale import run
from tests.support.terminal import DEADLINE

SMALL = "reel-fast"  # as any causal network, and in the least time
FRAMES, SEGMENT = 60, 0.24  # eight segments and more, shorter than the network's warm-up


NODES = 2


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ray_processes() -> list[psutil.Process]:
    """Processes of Ray that this process started, as far as they still run."""
    mine = os.environ["RAY_AUTH_TOKEN"]
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("RAY_AUTH_TOKEN") == mine:
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(condition: Callable[[], Any]) -> Any:
    """The value of a condition once it is true."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("the condition never became true")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def with_word(word: str) -> list[psutil.Process]:
    """The processes of Ray whose command contains a word."""
    found = []
    for process in ray_processes():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


def make(
    there: Cluster, source: Path, output: Path, on_progress: Any = None, **options: Any
) -> tuple[Result, list[Progress]]:
    """Run on a cluster; the result and every progress event."""
    seen: list[Progress] = []

    def callback(progress: Progress) -> None:
        seen.append(progress)
        if on_progress is not None:
            on_progress(progress)

    options = {"model": SMALL, "segment_seconds": SEGMENT, **options}
    plan = make_plan(source, output, UpscaleOptions(**options))
    return run(plan, callback, runner_on(there)), seen
