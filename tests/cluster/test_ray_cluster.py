"""Connections to Ray clusters: addresses, tokens, slots, and what cannot be reached."""

from __future__ import annotations

import contextlib
import http.server
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.cluster import ray_cluster
from sharpreel.cluster.ray_cluster import CONNECTING, SLOW_START, Cluster, Slots
from sharpreel.errors import MissingExtra
from tests.support.ray_nodes import (
    NODES,
    SEGMENT,
    SMALL,
    ray_processes,
    sha256,
    until,
    with_word,
)
from tests.support.terminal import DEADLINE, events, sharpreel, started, wait_for
from tests.support.videos import make_clip


def test_ray_client_gives_the_same_bytes(
    head: tuple[str, str], source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    command = ["upscale", source, "-o", output, "-m", SMALL, "--segment-seconds", SEGMENT]
    done = sharpreel(*command, "--json", "--cluster", head[1])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sha256(output) == sha256(alone(SMALL))
    assert sum(one["event"] == "segment" for one in events(done.stdout)) > NODES


def test_the_token_of_a_cluster_is_sent_to_its_address(
    head: tuple[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", head[0])
    command = ["upscale", source, "-o", tmp_path / "out.mp4", "-m", "bicubic", "--cluster", "auto"]
    done = sharpreel(*command)
    assert done.returncode == 0, done.stderr
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))  # where there is none
    done = sharpreel(*command, "-y")
    assert done.returncode == 2
    assert "it needs a token). Is its token in RAY_AUTH_TOKEN" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_interrupt_is_not_lost_while_videos_run() -> None:
    there = Cluster("auto")

    def make(video: int) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as a finalizer of Ray's does
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert there.stopped.wait(10)

    with pytest.raises(KeyboardInterrupt):
        there.map(make, [0])
    assert there.stopped.is_set()


def test_a_server_that_is_not_ray_is_reported_in_one_line(
    ray_token: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{other.server_port}")
        done = sharpreel("upscale", source, "-o", tmp_path / "out.mp4", "--cluster", "auto")
        other.shutdown()
    assert done.returncode == 2
    assert "(what listens there is not Ray)" in done.stderr


def test_slots_serve_earlier_videos_first() -> None:
    slots = Slots(lambda: 1)
    assert slots.take(1, 0)
    assert not slots.take(0, 0)
    order: list[int] = []

    def wait(rank: int) -> None:
        assert slots.take(rank, DEADLINE)
        order.append(rank)
        slots.give()

    threads = [threading.Thread(target=wait, args=(rank,)) for rank in (2, 0, 1)]
    for thread in threads:
        thread.start()
    until(lambda: len(slots._waiting) == 3)
    slots.give()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]
    assert slots.taken == 0


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sharpreel\[cluster\]'"), Cluster("auto"):
        pass


def test_an_unreachable_cluster_is_reported_in_one_line(
    ray_token: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{nobody.getsockname()[1]}")
        done = sharpreel("upscale", source, "-o", tmp_path / "out.mp4", "--cluster", "auto")
    assert done.returncode == 2
    assert "sharpreel: --cluster auto: no Ray cluster can be reached there" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_cluster_of_this_machine_warns_and_leaves_nothing(
    ray_token: None, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    before = {process.pid for process in ray_processes()}
    command = ["upscale", source, "-o", output, "-m", "bicubic", "--segment-seconds", SEGMENT]
    done = sharpreel(*command, "--cluster", "local")
    assert done.returncode == 0, done.stderr
    assert "listens on every network interface" in done.stderr
    assert "private network only" in done.stderr
    assert sha256(output) == sha256(alone("bicubic"))
    until(lambda: {process.pid for process in ray_processes()} <= before)


def test_a_slow_client_server_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    asked: list[str] = []

    def init(address: str, **options: Any) -> None:
        asked.append(address)
        if len(asked) < CONNECTING:
            raise ConnectionAbortedError(f"{SLOW_START}:\nTraceback ...")

    monkeypatch.setattr(ray, "init", init)
    there = Cluster("ray://host:1")
    there.ray = ray
    there._join({})
    assert asked == ["ray://host:1"] * CONNECTING
    asked.clear()
    monkeypatch.setattr(ray_cluster, "CONNECTING", 2)

    def fail(**options: Any) -> None:
        asked.append("x")
        raise RuntimeError("another thing")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(RuntimeError, match="another thing"):
        there._join({})
    assert asked == ["x"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster", "10.0.0.1"], "--cluster 10.0.0.1: must be auto, local or ray://HOST:PORT."),
        (["--cluster", "auto", "--cpus-per-task", "0"], "--cpus-per-task must be 1 or more"),
        (["--cluster", "auto", "--gpus-per-task", "1.5"], "--gpus-per-task 1.5"),
        (["--cluster", "auto", "-o", "-"], "--cluster writes files, not pipes"),
        (["--cluster", "local", "--cpus-per-task", "999"], "a local cluster cannot scale up"),
        (["--cluster", "local", "--gpus-per-task", "99"], "a local cluster cannot scale up"),
        (["--cpus-per-task", "1"], "--cpus-per-task and --gpus-per-task need --cluster"),
        (["--gpus-per-task", "0.5"], "--cpus-per-task and --gpus-per-task need --cluster"),
    ],
)
def test_invalid_cluster_options_are_refused_in_one_line(
    arguments: list[str], words: str, source: Path
) -> None:
    result = CliRunner().invoke(app, ["upscale", str(source), *arguments])
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


# The last test: it ends the client server of `head`.
def test_a_lost_client_server_stops_the_run_and_starts_nothing_here(
    head: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "1")
    path = make_clip(tmp_path / "in.mp4", size=(192, 128), frames=96, options={"g": "12"})
    command = ["upscale", path, "-o", tmp_path / "out.mp4", "-m", SMALL, "--json"]
    with started(*command, "--segment-seconds", SEGMENT, "--cluster", head[1]) as process:
        wait_for(process, "segment")
        for one in with_word("ray.util.client.server"):
            one.kill()
        assert process.stderr is not None
        reported = process.stderr.read()
        assert process.wait() == 6, reported
    assert "lost connection to the cluster" in reported
    assert "Started a local Ray instance" not in reported
