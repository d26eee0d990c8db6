"""One list of options: what a command shows, and what reaches `UpscaleOptions`."""

from __future__ import annotations

import inspect
from dataclasses import fields
from fractions import Fraction
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from sharpreel.cli.options import UpscaleArguments, expanded
from sharpreel.errors import UsageError
from sharpreel.models import DEFAULT_MODEL, LIVE_MODEL
from sharpreel.pipeline.options import UpscaleOptions

NAMES = [field.name for field in fields(UpscaleArguments)]
# A value other than the default for each field of UpscaleOptions: arguments, and what is parsed.
SET: dict[str, tuple[list[str], Any]] = {
    "model": (["--model", "bicubic"], "bicubic"),
    "scale": (["--scale", "4"], 4.0),
    "height": (["--height", "720"], 720),
    "size": (["--size", "320x200"], (320, 200)),
    "device": (["--device", "cpu"], "cpu"),
    "engine": (["--engine", "torch"], "torch"),
    "precision": (["--precision", "float32"], "float32"),
    "choices": (
        ["--set", "residual=true", "--set", "flow=dis"],
        {"residual": "true", "flow": "dis"},
    ),
    "tile": (["--tile", "0"], 0),
    "max_memory": (["--max-memory", "800M"], 800 << 20),
    "codec": (["--codec", "hevc"], "hevc"),
    "crf": (["--crf", "20"], 20),
    "preset": (["--preset", "slow"], "slow"),
    "pix_fmt": (["--pix-fmt", "yuv444p"], "yuv444p"),
    "start": (["--start", "1:02.5"], Fraction(125, 2)),
    "end": (["--end", "70"], Fraction(70)),
    "allow_audio_transcode": (["--allow-audio-transcode"], True),
    "overwrite": (["--overwrite"], True),
    "resume": (["--no-resume"], False),
    "skip_existing": (["--skip-existing"], True),
    "strict": (["--strict"], True),
    "segment_seconds": (["--segment-seconds", "2.5"], 2.5),
    "batch": (["--batch", "4"], 4),
    "live": (["--live"], True),
}


def parsed(*arguments: str) -> UpscaleOptions:
    """The options of a command line."""
    app = typer.Typer()
    seen: list[UpscaleOptions] = []

    @app.command()
    @expanded
    def command(chosen: UpscaleArguments) -> None:
        seen.append(chosen.options())

    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return seen[0]


def test_an_expanded_command_has_each_option_once_in_place_of_the_arguments() -> None:
    @expanded
    def command(source: str, chosen: UpscaleArguments, debug: bool = False) -> None: ...

    assert list(inspect.signature(command).parameters) == ["source", *NAMES, "debug"]


def test_no_flag_is_declared_twice() -> None:
    hints = inspect.get_annotations(UpscaleArguments, eval_str=True)
    flags = [flag for hint in hints.values() for flag in hint.__metadata__[0].param_decls]
    assert len(flags) == len(set(flags))


def test_the_other_parameters_of_an_expanded_command_keep_their_values() -> None:
    app = typer.Typer()
    seen: list[tuple[str, int | None, int]] = []

    @app.command()
    @expanded
    def command(
        source: str,
        chosen: UpscaleArguments,
        level: Annotated[int, typer.Option("--level")] = 1,
    ) -> None:
        seen.append((source, chosen.crf, level))

    result = CliRunner().invoke(app, ["in.mp4", "--crf", "9", "--level", "3"])
    assert result.exit_code == 0, result.output
    assert seen == [("in.mp4", 9, 3)]


def test_the_defaults_are_those_of_the_library() -> None:
    assert UpscaleArguments().options() == UpscaleOptions() == parsed()


def test_every_option_of_the_library_is_tested_here() -> None:
    assert set(SET) == {field.name for field in fields(UpscaleOptions)}


@pytest.mark.parametrize("name", SET)
def test_every_option_of_the_library_can_be_set(name: str) -> None:
    arguments, value = SET[name]
    options = parsed(*arguments)
    assert getattr(options, name) == value
    assert getattr(options, name) != getattr(UpscaleOptions(), name)
    changed = {n for n in SET if getattr(options, n) != getattr(UpscaleOptions(), n)}
    assert changed == ({"live", "model"} if name == "live" else {name})


def test_the_default_model_depends_on_live() -> None:
    assert UpscaleArguments().model_name == DEFAULT_MODEL
    assert UpscaleArguments(live=True).model_name == LIVE_MODEL
    assert UpscaleArguments(live=True, model="reel").model_name == "reel"


@pytest.mark.parametrize(
    "arguments",
    [
        UpscaleArguments(start="soon"),
        UpscaleArguments(size="1920"),
        UpscaleArguments(tile="some"),
        UpscaleArguments(max_memory="much"),
        UpscaleArguments(settings=["residual"]),
    ],
)
def test_text_that_cannot_be_parsed_is_a_usage_error(arguments: UpscaleArguments) -> None:
    with pytest.raises(UsageError):
        arguments.options()
