from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Answer, one_line, run, upscale
from tests.support.terminal import events, sharpreel


def test_quiet_prints_nothing(clip: Path, tmp_path: Path) -> None:
    result = upscale(clip, "-o", tmp_path / "out.mp4", "--quiet")
    assert result == Answer(0, "", "")


def test_json_reports_a_failure_too(tmp_path: Path) -> None:
    done = sharpreel("upscale", tmp_path / "gone.mp4", "--json")
    assert done.returncode == 3
    (error,) = events(done.stdout)
    assert error["event"] == "error"
    assert error["type"] == "InputError"
    assert error["input"] == str(tmp_path / "gone.mp4")
    assert "no such file" in error["message"]


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    result = upscale(tmp_path / "gone.mp4", "--debug")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert "sharpreel: " in result.stderr.splitlines()[-1]


def test_an_unexpected_error_is_one_line_that_names_debug(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("never thought of that")

    monkeypatch.setattr("sharpreel.queue.run", broken)
    result = upscale(clip, "-o", tmp_path / "out.mp4", "-q")
    assert result.exit_code == 1
    assert "never thought of that (use --debug to see where)" in one_line(result)


def test_running_out_of_memory_exits_with_four(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("sharpreel.queue.run", greedy)
    result = upscale(clip, "-o", tmp_path / "out.mp4", "-q")
    assert result.exit_code == 4
    assert "out of memory" in one_line(result)


def test_the_previous_signal_handler_is_restored(clip: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    upscale(clip, "-o", tmp_path / "out.mp4", "-q")
    assert signal.getsignal(signal.SIGTERM) is before


def test_json_escapes_quotes_and_line_breaks_in_names(tmp_path: Path) -> None:
    done = sharpreel("upscale", tmp_path / 'quote" \n line.mp4', "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["event"] == "error"


def test_an_unexpected_error_of_several_lines_is_printed_as_one(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("two\nlines")

    monkeypatch.setattr("sharpreel.queue.make_plan", broken)
    result = run("upscale", clip)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "unexpected KeyError" in result.stderr
