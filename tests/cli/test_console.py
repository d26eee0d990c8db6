"""Console output: options in messages, what is printed where, exit codes, signals."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from sharpreel.cli.console import (
    RUNNING,
    Console,
    errors_as_exit_codes,
    noted,
    options_of,
    with_options,
)
from sharpreel.errors import SharpreelError, UsageError
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
        raise RuntimeError("unexpected state")

    monkeypatch.setattr("sharpreel.queue.run", broken)
    result = upscale(clip, "-o", tmp_path / "out.mp4", "-q")
    assert result.exit_code == 1
    assert "unexpected state (use --debug to see where)" in one_line(result)


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


def command(
    codec: Annotated[str, typer.Option("-c", "--codec")] = "",
    pix_fmt: Annotated[str, typer.Option()] = "",
    size: Annotated[str, typer.Option("--size")] = "",
    output: Annotated[str, typer.Option("-o", "--output")] = "",
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite")] = False,
    no_resume: Annotated[bool, typer.Option("--no-resume")] = False,
    source: Annotated[str, typer.Argument()] = "",
) -> None:
    """A command with options of each kind."""


def shown(message: str) -> str:
    """A message with the options of `command`."""
    return with_options(message, command)


def test_the_options_of_a_command_are_found_by_parameter() -> None:
    assert options_of(command) == {
        "codec": "--codec",
        "pix_fmt": "--pix-fmt",
        "size": "--size",
        "output": "-o",
        "overwrite": "--overwrite",
        "no_resume": "--no-resume",
        "resume": "--no-resume",
    }


def test_an_option_with_a_name_of_its_own_is_found_by_parameter() -> None:
    def other(settings: Annotated[str, typer.Option("--set")] = "") -> None: ...

    assert options_of(other) == {"settings": "--set", "choices": "--set"}


def test_of_several_names_the_first_long_one_is_used() -> None:
    def other(
        model: Annotated[str, typer.Option("-m", "--model", "-n", "--model-name")] = "",
        output: Annotated[str, typer.Option("-o")] = "",
    ) -> None: ...

    assert options_of(other) == {"model": "--model", "output": "-o"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("codec='x' is not known.", "--codec x is not known."),
        ("pix_fmt='yuv420p': no.", "--pix-fmt yuv420p: no."),
        ("size=[1, 2] is odd", "--size [1, 2] is odd"),
        ("choose overwrite=True, or wait", "choose --overwrite, or wait"),
        ("remove resume=False.", "remove --no-resume."),
        ("size must be even", "--size must be even"),
        ("Give `codec` or `size`, not both.", "Give --codec or --size, not both."),
        ("choose another `output`", "choose another -o"),
        ("tile=3 is odd; see `tile`", "tile=3 is odd; see `tile`"),  # not of this command
        ("source='-': no pipe", "source='-': no pipe"),  # an argument has no option
        ("a codec is a codec", "a codec is a codec"),
        ("x264 takes codec names", "x264 takes codec names"),
    ],
)
def test_parameters_in_a_message_become_options(message: str, expected: str) -> None:
    assert shown(message) == expected


def test_without_a_command_a_message_stays_as_it_is() -> None:
    assert with_options("codec='x' is not known", None) == "codec='x' is not known"


def test_errors_of_other_threads_name_the_options_too(capsys: pytest.CaptureFixture[str]) -> None:
    token = RUNNING.set(command)
    try:
        console = Console(as_json=False, quiet=False)
    finally:
        RUNNING.reset(token)
    thread = threading.Thread(target=console.error, args=(UsageError("codec='x' is not known"),))
    thread.start()
    thread.join()
    assert capsys.readouterr().err == "sharpreel: --codec x is not known\n"


def test_a_noted_command_is_the_running_one() -> None:
    seen: list[object] = []

    def inner() -> None:
        seen.append(RUNNING.get())

    token = RUNNING.set(None)
    try:
        noted(inner)()
    finally:
        RUNNING.reset(token)
    assert seen == [inner]


def test_results_go_to_stdout_and_messages_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=False, quiet=False)
    console.info("message")
    console.result("result")
    console.event("done", frames=3)
    assert capsys.readouterr() == ("result\n", "message\n")


def test_with_json_only_events_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True, quiet=False)
    console.info("message")
    console.result("result")
    console.event("done", output=Path("a.mp4"))
    console.error(UsageError("no"), "in.mp4")
    out, err = capsys.readouterr()
    assert events(out) == [
        {"event": "done", "output": "a.mp4"},
        {"event": "error", "input": "in.mp4", "type": "UsageError", "message": "no"},
    ]
    assert err == "sharpreel: no\n"


def test_with_quiet_warnings_and_errors_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=False, quiet=True)
    console.info("message")
    console.warn("careful")
    assert capsys.readouterr() == ("", "sharpreel: warning: careful\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), UsageError.exit_code),
        (SharpreelError("x"), SharpreelError.exit_code),
        (ValueError("x"), 1),
        (MemoryError(), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_has_an_exit_code_and_one_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(as_json=False, quiet=True)
    with pytest.raises(typer.Exit) as caught, errors_as_exit_codes(console, debug=False):
        raise error
    assert caught.value.exit_code == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
