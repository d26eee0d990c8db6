"""`sharpreel studio` from the command line."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_without_streamlit_the_extra_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpreel.cli import studio

    monkeypatch.setattr(studio, "find_spec", lambda name: None)
    done = run("studio")
    assert done.exit_code == 2
    assert done.stderr == (
        "sharpreel: The studio requires an optional dependency: pip install 'sharpreel[studio]'.\n"
    )


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("me", False)],
)
def test_loopback_hosts_are_recognised(host: str, only_here: bool) -> None:
    from sharpreel.cli import studio

    assert studio.is_loopback(host) == only_here


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("studio", "--port", str(port), "--folder", str(tmp_path))
    assert done.exit_code == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
