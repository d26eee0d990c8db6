"""The command in this process: quick, and what is not caught is raised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from sharpreel.cli.main import app


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    exit_code: int
    stdout: str
    stderr: str


def run(*arguments: str | Path) -> Answer:
    """The command in this process: quick, and what is not caught is raised."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def upscale(*arguments: str | Path) -> Answer:
    """`sharpreel upscale` with the quickest network."""
    return run("upscale", "-m", "bicubic", *arguments)


def one_line(result: Answer) -> str:
    """An error: one line on stderr, no traceback, nothing on stdout."""
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sharpreel: ")
    return lines[0]


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
