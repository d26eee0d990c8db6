"""`sharpreel serve` and `sharpreel remote`: arguments, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharpreel.cli.console import Console
from sharpreel.cli.web import _reporter
from tests.support.terminal import sharpreel

JOB: dict[str, Any] = {
    "id": "1",
    "state": "running",
    "stage": "upscale",
    "frames": 5,
    "total": 10,
    "fps": 2.0,
    "eta_seconds": 2.5,
    "error": None,
    "client": "private",
}


def test_an_unknown_limit_is_reported_before_anything_starts(tmp_path: Path) -> None:
    done = sharpreel("serve", "--data-dir", tmp_path / "data", "--limit", "upload_byte=5")
    assert done.returncode == 2
    assert "no such limit. Did you mean upload_bytes?" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_url_of_another_protocol_is_rejected(clip: Path) -> None:
    done = sharpreel("remote", "ftp://host", "upscale", clip)
    assert done.returncode == 2
    assert "write the site as http://HOST:PORT" in done.stderr


def test_progress_is_printed_in_short_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report = _reporter(Console(False, False))
    report("upload", {"bytes": 0, "total": 2_000_000, "resumed": 0})
    report("upload", {"bytes": 1, "total": 2_000_000, "resumed": 0})  # too soon
    report("upload", {"bytes": 2_000_000, "total": 2_000_000, "resumed": 0})
    report("job", JOB)
    assert capsys.readouterr().err.splitlines() == [
        "  upload 0.0 MB, 0 %",
        "  upload 2.0 MB, 100 %",
        "  running 5/10 frames, 2.0 fps, ETA 0:02",
    ]


def test_progress_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _reporter(Console(True, False))("job", JOB)
    captured = capsys.readouterr()
    event = json.loads(captured.out)
    assert (event["event"], event["frames"], captured.err) == ("job", 5, "")
    assert "client" not in event
