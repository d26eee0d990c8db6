from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup, TyperOption
from typer.testing import CliRunner

from sharpreel import __version__
from sharpreel.cli.arguments import seconds_of, size_of
from sharpreel.cli.main import app
from sharpreel.cli.upscale import list_jobs
from sharpreel.errors import UsageError
from sharpreel.media.probe import probe
from sharpreel.media.reader import read_frames
from sharpreel.models import MODELS
from sharpreel.pipeline.journal import Journal
from sharpreel.system.resources import cuda_available
from sharpreel.system.text import format_duration
from tests.support.terminal import events, python, sharpreel, started, wait_for
from tests.support.videos import REPO, make_clip

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


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    exit_code: int
    stdout: str
    stderr: str


def run(*arguments: str | Path) -> Said:
    """The command in this process: quick, and what is not caught is raised."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def upscale(*arguments: str | Path) -> Said:
    """`sharpreel upscale` with the quickest network."""
    return run("upscale", "-m", "bicubic", *arguments)


def commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


def one_line(result: Said) -> str:
    """What an error says: one line on stderr, no traceback, nothing on stdout."""
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sharpreel: ")
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, one in a subfolder, among other things."""
    films = tmp_path / "films"
    (films / "sub" / "deep").mkdir(parents=True)
    make_clip(films / "a.mp4", frames=3)
    make_clip(films / "sub" / "deep" / "b.mkv", frames=3)
    (films / "notes.txt").write_text("not a video")
    return films


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# What there is.


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
        "from sharpreel.cli import app; app(['--help'])",
        "from sharpreel.cli import app; app(['upscale', '--help'])",
        "from sharpreel.cli import app; app(['--version'])",
    ],
)
def test_importing_and_asking_for_help_load_nothing_heavy(program: str) -> None:
    assert loaded(program, "torch", "openvino", "av", "numpy") == set()


def test_a_run_with_the_bundled_network_never_loads_torch(clip: Path, tmp_path: Path) -> None:
    command = ["upscale", str(clip), "-o", str(tmp_path / "out.mp4"), "-q"]
    program = f"from sharpreel.cli import app; app({command!r})"
    assert loaded(program, "torch", "openvino", "av") == {"openvino", "av"}
    assert (tmp_path / "out.mp4").exists()


# A run.


def test_a_run_prints_the_output_and_exits_with_zero(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    done = sharpreel("upscale", clip, "-o", output)
    assert done.returncode == 0
    assert done.stdout == f"{output}\n"
    assert "64x48" in done.stderr
    assert "128x96" in done.stderr
    assert "24 frames" in done.stderr
    assert "verified" in done.stderr
    assert (probe(output).width, probe(output).num_frames) == (128, 24)


def test_quiet_says_nothing(clip: Path, tmp_path: Path) -> None:
    result = upscale(clip, "-o", tmp_path / "out.mp4", "--quiet")
    assert result == Said(0, "", "")


def test_json_lines_tell_the_whole_run(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    done = sharpreel("upscale", clip, "-o", output, "--json", "--segment-seconds", "0.24")
    assert done.returncode == 0
    assert done.stderr == ""
    said = events(done.stdout)
    names = [one["event"] for one in said]
    assert names[0] == "start"
    assert names[-1] == "done"
    assert {"progress", "segment"} <= set(names)
    assert (said[0]["input"], said[0]["output"]) == (str(clip), str(output))
    assert said[-1]["frames"] == 24
    assert said[-1]["verified"] is True
    for one in said:
        if one["event"] == "progress":
            assert 0 <= one["frames"] <= one["total"] == 24
            assert one["fps"] > 0
    assert [one["segment"] for one in said if one["event"] == "segment"] == [0, 1, 2]


def test_json_tells_of_a_failure_too(tmp_path: Path) -> None:
    done = sharpreel("upscale", tmp_path / "gone.mp4", "--json")
    assert done.returncode == 3
    (error,) = events(done.stdout)
    assert error["event"] == "error"
    assert error["type"] == "InputError"
    assert error["input"] == str(tmp_path / "gone.mp4")
    assert "no such file" in error["message"]


def test_options_reach_the_output(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    result = upscale(
        *(clip, "-o", output, "-s", "4", "--codec", "hevc", "--crf", "30", "--preset", "ultrafast"),
        *("--pix-fmt", "yuv444p", "--start", "0:00.2", "--end", "0.6", "-q"),
    )
    assert result.exit_code == 0
    info = probe(output)
    assert (info.codec, info.pix_fmt, info.width) == ("hevc", "yuv444p", 256)
    assert len(read_frames(output)) == 10


def test_an_exact_size_is_made(clip: Path, tmp_path: Path) -> None:
    assert upscale(clip, "-o", tmp_path / "o.mp4", "--size", "100x80").exit_code == 0
    info = probe(tmp_path / "o.mp4")
    assert (info.width, info.height) == (100, 80)


def test_a_video_that_is_large_enough_is_left_and_said_so(clip: Path, tmp_path: Path) -> None:
    result = upscale(clip, "-o", tmp_path / "o.mp4", "--height", "48")
    assert result.exit_code == 0
    assert "skipped, already 64x48" in result.stderr
    result = upscale(clip, "-o", tmp_path / "o.mp4", "--height", "48", "--json")
    assert [one["event"] for one in events(result.stdout)] == ["skipped"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("frames", "size"), [(1, (64, 48)), (2, (16, 16))])
def test_the_shortest_and_smallest_videos_are_upscaled(
    frames: int, size: tuple[int, int], tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=frames, size=size)
    result = run("upscale", source, "-o", tmp_path / "out.mp4", "-q")
    assert result.exit_code == 0, result.stderr
    assert read_frames(tmp_path / "out.mp4").shape == (frames, 2 * size[1], 2 * size[0], 3)


def test_an_existing_output_is_kept_unless_it_may_be_overwritten(
    clip: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"mine")
    result = upscale(clip, "-o", output)
    assert result.exit_code == 2
    assert str(output) in one_line(result)
    skipped = upscale(clip, "-o", output, "--skip-existing")
    assert skipped.exit_code == 0
    assert "skipped" in skipped.stderr
    assert output.read_bytes() == b"mine"
    assert upscale(clip, "-o", output, "--overwrite", "-q").exit_code == 0
    assert output.stat().st_size > 100


def test_names_with_spaces_quotes_and_foreign_letters_are_taken(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / 'it\'s "ein" Füßchen %d [1] 映画 ;&.mp4'
    shutil.copy(clip, source)
    assert upscale(source, "-q").exit_code == 0
    assert (tmp_path / f"{source.stem}_bicubic_x2.mp4").exists()


def test_a_name_that_begins_with_a_dash_is_taken(clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "-x.mp4")
    done = sharpreel("upscale", "-m", "bicubic", "-q", "--", "-x.mp4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "-x_bicubic_x2.mp4").exists()


# Folders.


def test_a_folder_is_upscaled_without_its_subfolders(folder: Path, tmp_path: Path) -> None:
    result = upscale(folder, "-o", tmp_path / "out", "-q")
    assert result.exit_code == 0, result.stderr
    assert tree(tmp_path / "out") == {"a_bicubic_x2.mp4"}


def test_a_folder_with_its_subfolders_keeps_its_tree(folder: Path, tmp_path: Path) -> None:
    result = upscale(folder, "-o", tmp_path / "out", "--recursive", "-q")
    assert result.exit_code == 0, result.stderr
    assert tree(tmp_path / "out") == {"a_bicubic_x2.mp4", "sub/deep/b_bicubic_x2.mkv"}


def test_one_bad_file_does_not_stop_the_good_ones(folder: Path, tmp_path: Path) -> None:
    bad = folder / "aa_bad.mp4"  # between the good ones
    bad.write_bytes(b"this is no video" * 100)
    result = upscale(folder, "-o", tmp_path / "out", "--recursive", "--json")
    assert result.exit_code == 1
    assert tree(tmp_path / "out") == {"a_bicubic_x2.mp4", "sub/deep/b_bicubic_x2.mkv"}
    said = events(result.stdout)
    assert [one["input"] for one in said if one["event"] == "error"] == [str(bad)]
    assert sum(one["event"] == "done" for one in said) == 2
    assert said[-1] == {"event": "finished", "inputs": 3, "failed": 1}
    assert str(bad) in result.stderr


def test_a_second_pass_over_a_folder_makes_only_what_is_new(folder: Path) -> None:
    assert upscale(folder, "-r", "-q").exit_code == 0
    first = tree(folder)
    make_clip(folder / "new.mp4", frames=2)
    result = upscale(folder, "-r", "--skip-existing", "--json")
    assert result.exit_code == 0
    said = events(result.stdout)
    assert sum(one["event"] == "skipped" for one in said) == 2
    assert tree(folder) == first | {"new.mp4", "new_bicubic_x2.mp4"}


@pytest.mark.parametrize("place", ["out", ".", ".."])
def test_what_an_earlier_pass_made_is_no_input(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = tree(folder.parent)
    for _ in range(2):
        done = upscale(folder, "-r", "-o", place, "-q", "--skip-existing")
        assert done.exit_code == 0
    made = {p.split("/")[-1] for p in tree(folder.parent) - before}
    assert made == {"a_bicubic_x2.mp4", "b_bicubic_x2.mkv"}


def test_a_folder_without_videos_is_an_input_error(tmp_path: Path) -> None:
    result = upscale(tmp_path)
    assert result.exit_code == 3
    assert "subfolders are searched with --recursive" in one_line(result)


def test_many_videos_do_not_fit_into_one_file(folder: Path, tmp_path: Path) -> None:
    result = upscale(folder, "-r", "-o", tmp_path / "out.mp4")
    assert result.exit_code == 2
    assert "need a folder" in one_line(result)


def test_many_videos_with_an_output_folder_that_cannot_be_made(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = upscale(folder, "-o", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "file" / "out") in one_line(result)


def test_a_folder_that_is_told_to_end_does_not_begin_the_next_video(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name in "ab":
        make_clip(films / f"{name}.mp4", size=(192, 128), frames=300, audio=False)
    command = ["upscale", films, "-o", tmp_path / "out", "--json", "--segment-seconds", "0.2"]
    with started(*command) as process:
        wait_for(process, "segment")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 6
    assert [one["event"] for one in events(out)].count("start") == 0
    assert len(err.splitlines()) == 1
    assert tree(tmp_path / "out").isdisjoint({"a_reel_x2.mp4", "b_reel_x2.mp4"})


# Errors and exit codes.


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.mp4", None, "no such file"),
        ("empty.mp4", b"", "empty"),
        ("garbage.mp4", b"garbage" * 300, "not a readable video"),
        ("text.mkv", b"Hello, world.\n", "not a readable video"),
    ],
)
def test_an_input_that_is_no_video_exits_with_three(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    result = upscale(path)
    assert result.exit_code == 3
    assert str(path) in one_line(result)
    assert words in result.stderr


def test_a_sound_file_exits_with_three(tmp_path: Path) -> None:
    import av

    from tests.support.videos import add_sound, write_sound

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as out:
        write_sound(out, add_sound(out), 0.5)
    result = upscale(path)
    assert result.exit_code == 3
    assert "Is it an audio file?" in one_line(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "reel-fats"], "Did you mean reel-fast?"),
        (["-m", "nothing-like-it"], "Known models"),
        (["-s", "3"], "2 or 4 times, not 3"),
        (["--height", "15"], "A side of 15 pixels"),
        (["--height", "0"], "A side of 0 pixels"),
        (["--height", "20000"], "A side of 20000 pixels"),
        (["--size", "1920"], "not a size; write 1920x1080"),
        (["--size", "101x80"], "101x80 is odd"),
        (["--start", "soon"], "not a time"),
        (["--start", "2", "--end", "1"], "--end"),
        (["--codec", "h266"], "--codec h266 is not known"),
        (["--pix-fmt", "yuv999p"], "--pix-fmt yuv999p"),
        (["--size", "²x5"], "not a size; write 1920x1080"),
        (["--crf", "52"], "--crf 52: h264 takes 0 to 51"),
        (["--crf", "-1"], "--crf -1: h264 takes 0 to 51"),
        (["-o", "o.mkv", "--codec", "ffv1", "--crf", "9"], "--crf 9: ffv1 has no such setting"),
        (["--preset", "warp"], "--preset warp: h264 takes ultrafast, superfast"),
        (["--codec", "av1", "--preset", "fast"], "--preset fast: av1 takes 0, 1"),
        (["--size", "16384x16384"], "libx264 cannot encode 16384x16384"),
        (["--device", "tpu"], "--device tpu is not known"),
        (["--engine", "caffe"], "--engine caffe is not known"),
        (["--segment-seconds", "0"], "--segment-seconds"),
        (["-o", "out.xyz"], "out.xyz|.xyz"),
        (["-o", "out.webm", "--codec", "h264"], ".webm does not take h264"),
        (["-o", "nowhere/out.mp4"], "nowhere"),
    ],
)
def test_a_wish_that_cannot_be_met_exits_with_two(
    arguments: list[str],
    words: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    target = [] if "-o" in arguments else ["-o", "out.mp4"]
    result = run("upscale", clip, *target, *arguments)
    assert result.exit_code == 2
    assert any(word in one_line(result) for word in words.split("|"))
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_is_not_there_exits_with_two(clip: Path) -> None:
    result = run("upscale", clip, "--colour")
    assert result.exit_code == 2
    assert "--colour" in result.stderr


def test_an_output_that_is_the_input_exits_with_two(clip: Path) -> None:
    result = upscale(clip, "-o", clip, "--overwrite")
    assert result.exit_code == 2
    assert str(clip) in one_line(result)


@pytest.mark.parametrize("place", ["file/out.mp4", "/proc/out.mp4"])
def test_a_place_that_cannot_be_written_exits_with_two(
    place: str, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / place
    if not output.parent.exists():
        pytest.skip(f"no {output.parent} here")
    result = upscale(clip, "-o", output)
    assert result.exit_code == 2
    assert str(output) in one_line(result)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"\xff" * 4096])
def test_a_model_file_that_is_not_one_exits_with_three(
    content: bytes, clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    result = run("upscale", clip, "-o", tmp_path / "o.mp4", "-m", path)
    assert result.exit_code == 3
    assert str(path) in one_line(result)


def test_a_device_that_is_not_there_exits_with_four(clip: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = upscale(clip, "-o", tmp_path / "out.mp4", "--device", "cuda", "-q")
    assert result.exit_code == 4
    assert "no CUDA GPU" in one_line(result)
    assert list(tmp_path.iterdir()) == []


def test_verify_exits_with_zero_or_five(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    assert upscale(clip, "-o", output, "-q").exit_code == 0
    good = run("verify", clip, output)
    assert good.exit_code == 0
    assert "holds all" in good.stdout
    other = make_clip(tmp_path / "other.mp4", frames=23)
    bad = run("verify", other, output)
    assert bad.exit_code == 5
    assert bad.stdout
    said = run("verify", other, output, "--json")
    assert said.exit_code == 5
    (one,) = events(said.stdout)
    assert one["ok"] is False
    assert one["differences"]


def test_verify_of_a_file_that_is_not_there_exits_with_three(clip: Path, tmp_path: Path) -> None:
    result = run("verify", clip, tmp_path / "gone.mp4")
    assert result.exit_code == 3
    assert str(tmp_path / "gone.mp4") in one_line(result)


def test_an_output_that_another_run_is_making_exits_with_six(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    other = Journal(output, {})
    result = upscale(clip, "-o", output, "-q")
    other.close()
    assert result.exit_code == 6
    assert "another run is making this output" in one_line(result)


def test_a_damaged_input_is_upscaled_and_exits_with_one(corpus: Path, tmp_path: Path) -> None:
    source = corpus / "media" / "gen_damaged.mp4"
    if not source.exists():
        pytest.skip("the damaged clip is not here")
    result = upscale(source, "-o", tmp_path / "out.mp4", "--json")
    assert result.exit_code == 1
    done = events(result.stdout)[-1]
    assert done["lost"] > 0
    assert f"{done['lost']} frame" in result.stderr
    assert len(read_frames(tmp_path / "out.mp4")) == done["frames"]
    strict = upscale(source, "-o", tmp_path / "strict.mp4", "--strict", "-q")
    assert strict.exit_code == 3
    assert "--strict" in one_line(strict)
    assert not (tmp_path / "strict.mp4").exists()


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    result = upscale(tmp_path / "gone.mp4", "--debug")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert "sharpreel: " in result.stderr.splitlines()[-1]


def test_a_fault_of_ours_is_one_line_too(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("never thought of that")

    monkeypatch.setattr("sharpreel.upscale.run", broken)
    result = upscale(clip, "-o", tmp_path / "out.mp4", "-q")
    assert result.exit_code == 1
    assert "never thought of that (use --debug to see where)" in one_line(result)


def test_no_memory_exits_with_four(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("sharpreel.upscale.run", greedy)
    result = upscale(clip, "-o", tmp_path / "out.mp4", "-q")
    assert result.exit_code == 4
    assert "out of memory" in one_line(result)


def test_the_signal_handler_is_put_back(clip: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    upscale(clip, "-o", tmp_path / "out.mp4", "-q")
    assert signal.getsignal(signal.SIGTERM) is before


# The other commands.


def test_plan_says_what_will_be_and_makes_nothing(clip: Path, tmp_path: Path) -> None:
    result = run("plan", clip, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0
    for word in ("64x48", "128x96", "h264", "reel", "ETA", "memory", "disk", "copied"):
        assert word in result.stdout, word
    assert list(tmp_path.iterdir()) == []


def test_plan_as_json_has_numbers(clip: Path) -> None:
    result = run("plan", clip, "-m", "bicubic", "--json")
    (one,) = events(result.stdout)
    assert one["event"] == "plan"
    assert one["to"]["height"] == 96
    assert one["estimate"]["fps"] > 0
    assert one["estimate"]["eta_seconds"] > 0
    without = run("plan", clip, "--json", "--no-trial")
    assert events(without.stdout)[0]["estimate"] is None


def test_plan_of_a_folder_names_each_video_and_the_bad_ones(folder: Path) -> None:
    (folder / "bad.mp4").write_bytes(b"bad" * 1000)
    result = run("plan", folder, "-r", "--json", "--no-trial")
    assert result.exit_code == 1
    assert [one["event"] for one in events(result.stdout)] == ["plan", "error", "plan"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-d", "cuda"], 4),
        (["-m", "bicubic", "--precision", "int8"], 2),
        (["-m", "reel-quality", "-s", "4", "--engine", "openvino"], 2),
    ],
)
def test_a_plan_refuses_what_the_run_would(clip: Path, words: list[str], code: int) -> None:
    if cuda_available() and "cuda" in words:
        pytest.skip("there is a GPU")
    planned = run("plan", clip, "--no-trial", *words)
    made = run("upscale", clip, *words)
    assert planned.exit_code == made.exit_code == code
    assert planned.stderr.splitlines()[-1] == made.stderr.splitlines()[-1]
    assert "sharpreel export" not in planned.stderr  # which cannot do it either


def test_plan_says_that_there_is_nothing_to_do(clip: Path) -> None:
    result = run("plan", clip, "--height", "40")
    assert result.exit_code == 0
    assert "nothing to do" in result.stdout


def test_models_lists_every_network_at_every_scale() -> None:
    rows = events(run("models", "--json").stdout)
    listed = {(m["name"], m["scale"]) for m in rows if m["where"] != "download"}
    assert listed == {(name, scale) for name, spec in MODELS.items() for scale in spec.scales}
    table = run("models").stdout
    assert all(name in table for name in MODELS)
    assert "(default)" in table


def test_doctor_names_versions_devices_and_encoders() -> None:
    (facts,) = events(run("doctor", "--json").stdout)
    assert facts["sharpreel"] == __version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "h264" in facts["encoders"]
    assert facts["processors"] >= 1
    assert facts["cuda"] in ("yes", "no")
    text = run("doctor").stdout
    assert all(name in text for name in facts if name != "event")


def test_export_builds_a_graph_that_runs_without_torch(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = run("export", "reel-fast", "-s", "2", "-o", tmp_path)
    assert result.exit_code == 0, result.stderr
    made = Path(result.stdout.splitlines()[-1])
    assert made == tmp_path / "reel-fast_x2.xml"
    assert made.with_suffix(".bin").stat().st_size > 10_000


def test_export_refuses_a_name_that_is_not_there(tmp_path: Path) -> None:
    result = run("export", "reel-fats", "-o", tmp_path)
    assert result.exit_code == 2
    assert "Did you mean reel-fast?" in one_line(result)


# Words.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("12.5", 12.5), ("1:02", 62), ("1:02:03.25", 3723.25), ("90:00", 5400)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "1:-2", "1:", "1/0"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["1920", "x1080", "1920x", "axb", "-1x5", "1.5x2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        size_of(text)


def test_sizes_are_read() -> None:
    assert size_of("1920x1080") == size_of("1920X1080") == (1920, 1080)
    assert size_of(None) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0, "0:00"), (59.6, "1:00"), (3723, "1:02:03")]
)
def test_clocks_are_shown(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_json_survives_names_that_are_no_text(tmp_path: Path) -> None:
    done = sharpreel("upscale", tmp_path / 'quote" \n line.mp4', "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["event"] == "error"


def test_hidden_files_of_a_folder_are_no_inputs(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "._a.mp4").write_bytes(b"what a Mac leaves on a stick")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "b.mp4").write_bytes(clip.read_bytes())
    jobs = list_jobs(tmp_path, None, recursive=True)
    assert [source.name for source, _ in jobs] == ["a.mp4"]


def test_two_inputs_with_one_output_name_do_not_replace_each_other(
    clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.avi", "a.wmv"):  # by their names; both become .mp4
        (folder / name).write_bytes(clip.read_bytes())
    result = run("upscale", folder, "-o", tmp_path / "out", "-m", "bicubic", "--overwrite")
    assert result.exit_code == 1
    assert "made of another input just now" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_bicubic_x2.mp4"]


def test_what_nobody_expected_is_one_line(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("two\nlines")

    monkeypatch.setattr("sharpreel.upscale.plan_for", broken)
    result = run("upscale", clip)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "unexpected KeyError" in result.stderr
