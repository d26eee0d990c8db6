"""The supervisor: restarts, one site per folder, and a full disk."""

from __future__ import annotations

import errno
import http.client
import shutil
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import UsageError
from sharpreel.web import supervisor
from sharpreel.web.jobs import service
from sharpreel.web.settings import Settings
from tests.support.site_process import API, NO_RATE_LIMITS, running_site, survivors
from tests.support.terminal import sharpreel


def test_a_full_disk_does_not_stop_the_site(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: Counter[str] = Counter()
    enough = threading.Event()

    def failing(name: str, error: Exception) -> Callable[..., Any]:
        def fail(*arguments: Any) -> None:
            tries[name] += 1
            if min(tries["recover"], tries["expire"]) >= 2:
                enough.set()
            raise error

        return fail

    full = sqlite3.OperationalError("database or disk is full")
    monkeypatch.setattr(service, "recover_lost", failing("recover", full))
    monkeypatch.setattr(service, "expire", failing("expire", OSError(errno.ENOSPC, "no space")))
    for name in ("POLL_SECONDS", "RECOVER_SECONDS", "EXPIRE_SECONDS"):
        monkeypatch.setattr(supervisor, name, 0.01)
    site = supervisor.Supervisor(settings, None)
    site._children = []
    watching = threading.Thread(target=site._watch)
    watching.start()
    assert enough.wait(30)
    site._stopping.set()
    watching.join()
    site._store.close()


def test_a_site_stops_cleanly_and_only_one_runs_on_a_folder(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "data"
    with running_site(folder, *NO_RATE_LIMITS) as site:
        second = sharpreel("serve", "--port", "0", "--data-dir", folder)
        assert second.returncode == 6
        assert "another site runs on this folder" in second.stderr
        taken = sharpreel(
            "serve",
            "--port",
            site.client.port,
            "--data-dir",
            tmp_path / "other",
            "--limit",
            "bytes=5",
        )
        assert taken.returncode == 2
        assert "no such limit. Did you mean" in taken.stderr
        # An open event stream does not keep the site from stopping.
        listener = http.client.HTTPConnection("127.0.0.1", site.client.port, timeout=60)
        listener.request("GET", f"{API}/events")
        response = listener.getresponse()
        assert site.stop() == 0
        response.read()
        listener.close()
    assert (folder.stat().st_mode & 0o777, (folder / "secret").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    shutil.rmtree(folder)


def test_a_killed_server_is_restarted_on_the_same_socket(tmp_path: Path, clip: Path) -> None:
    with running_site(tmp_path / "data", *NO_RATE_LIMITS, "--limit", "request_seconds=2") as site:
        upload = site.client.upload(clip)
        before = site.processes("sharpreel.web.server")
        for one in before:
            one.kill()
        assert not survivors(before)
        assert site.client.call("GET", f"/uploads/{upload['id']}")["state"] == "ready"
        assert not set(site.processes("sharpreel.web.server")) & set(before)
        # A client that sends nothing for too long is disconnected.
        with socket.create_connection(("127.0.0.1", site.client.port), timeout=60) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
            while line.recv(1000):
                pass
        assert not any("Traceback" in line for line in site.log)


def test_a_child_that_fails_again_is_restarted_later_each_time() -> None:
    child = supervisor.ChildProcess("server", ["module"])
    delays = []
    for child.failures in (0, 1, 2, 3, 99):
        delays.append(child.restart_delay)
    assert delays == [0, 1, 2, 4, supervisor.MAX_RESTART_DELAY]


def test_a_port_in_use_names_its_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BIND_SECONDS", -1)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(UsageError, match=r"cannot listen on this address.*`port` or `host`"),
    ):
        supervisor.listen(Settings(port=other.getsockname()[1]))
