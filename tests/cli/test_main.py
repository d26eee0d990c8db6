"""The application: commands, options, documentation, and what a start loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup, TyperOption

from sharpreel import __version__
from sharpreel.cli.main import app
from tests.support.commands import run
from tests.support.terminal import python
from tests.support.videos import REPO

OPTIONS = {
    "upscale": "--output -o --model -m --scale -s --height --size --device --engine --codec --crf "
    "--preset --pix-fmt --start --end --overwrite --no-resume --skip-existing --recursive --json "
    "--quiet --debug --strict --allow-audio-transcode --segment-seconds",
    "plan": "--output --model --scale --height --size --device --codec --crf --preset --pix-fmt "
    "--start --end --allow-audio-transcode --overwrite --recursive --json --debug",
    "verify": "--start --end --json --debug",
    "models": "--json",
    "doctor": "--json",
    "export": "--output -o --scale --debug",
}


def commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_command_has_its_options(name: str) -> None:
    have = {opt for parameter in commands()[name].params for opt in parameter.opts}
    assert set(OPTIONS[name].split()) <= have


def test_every_option_of_every_command_is_documented() -> None:
    text = (REPO / "docs" / "cli.md").read_text()
    for name, command in commands().items():
        assert f"sharpreel {name}" in text, name
        for parameter in command.params:
            if isinstance(parameter, TyperOption):
                longest = max(parameter.opts, key=len)
                assert re.search(rf"{re.escape(longest)}(?![\w-])", text), f"{name} {longest}"


def test_every_exit_code_is_documented() -> None:
    text = (REPO / "docs" / "cli.md").read_text()
    for code in (0, 1, 2, 3, 4, 5, 6, 130):
        assert re.search(rf"^\W*{code}\b", text, re.MULTILINE), code


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"sharpreel {__version__}\n"


@pytest.mark.parametrize("name", OPTIONS)
def test_each_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--" in result.stdout


def loaded(program: str, *parts: str) -> set[str]:
    """Which of these modules a program has loaded at its end."""
    done = python(
        "-c",
        "import sys\n"
        f"try:\n    {program}\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"print('LOADED', *[p for p in {parts!r} if p in sys.modules])",
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "program",
    [
        "import sharpreel",
        "from sharpreel.cli.main import app; app(['--help'])",
        "from sharpreel.cli.main import app; app(['upscale', '--help'])",
        "from sharpreel.cli.main import app; app(['--version'])",
    ],
)
def test_importing_and_asking_for_help_load_nothing_heavy(program: str) -> None:
    assert loaded(program, "torch", "openvino", "av", "numpy") == set()


def test_a_run_with_the_bundled_network_never_loads_torch(clip: Path, tmp_path: Path) -> None:
    command = ["upscale", str(clip), "-o", str(tmp_path / "out.mp4"), "-q"]
    program = f"from sharpreel.cli.main import app; app({command!r})"
    assert loaded(program, "torch", "openvino", "av") == {"openvino", "av"}
    assert (tmp_path / "out.mp4").exists()


def test_an_unknown_option_exits_with_two(clip: Path) -> None:
    result = run("upscale", clip, "--colour")
    assert result.exit_code == 2
    assert "--colour" in result.stderr
