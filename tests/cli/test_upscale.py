"""`sharpreel upscale`: outputs, folders, exit codes."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from sharpreel.media.probe import probe
from sharpreel.media.reader import read_frames
from sharpreel.pipeline.journal import Journal
from tests.support.commands import one_line, run, tree, upscale
from tests.support.terminal import events, sharpreel, started, wait_for
from tests.support.videos import make_clip


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


def test_the_output_has_the_exact_size_requested(clip: Path, tmp_path: Path) -> None:
    assert upscale(clip, "-o", tmp_path / "o.mp4", "--size", "100x80").exit_code == 0
    info = probe(tmp_path / "o.mp4")
    assert (info.width, info.height) == (100, 80)


def test_a_video_that_is_large_enough_is_skipped_with_the_reason(
    clip: Path, tmp_path: Path
) -> None:
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


def test_names_with_spaces_quotes_and_foreign_letters_are_accepted(
    clip: Path, tmp_path: Path
) -> None:
    source = tmp_path / 'it\'s "ein" Füßchen %d [1] 映画 ;&.mp4'
    shutil.copy(clip, source)
    assert upscale(source, "-q").exit_code == 0
    assert (tmp_path / f"{source.stem}_bicubic_x2.mp4").exists()


def test_a_name_that_begins_with_a_dash_is_accepted(clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "-x.mp4")
    done = sharpreel("upscale", "-m", "bicubic", "-q", "--", "-x.mp4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "-x_bicubic_x2.mp4").exists()


def test_a_folder_is_upscaled_without_its_subfolders(folder: Path, tmp_path: Path) -> None:
    result = upscale(folder, "-o", tmp_path / "out", "-q")
    assert result.exit_code == 0, result.stderr
    assert tree(tmp_path / "out") == {"a_bicubic_x2.mp4"}


def test_a_folder_with_its_subfolders_keeps_its_tree(folder: Path, tmp_path: Path) -> None:
    result = upscale(folder, "-o", tmp_path / "out", "--recursive", "-q")
    assert result.exit_code == 0, result.stderr
    assert tree(tmp_path / "out") == {"a_bicubic_x2.mp4", "sub/deep/b_bicubic_x2.mkv"}


def test_a_broken_file_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    bad = folder / "aa_bad.mp4"  # between the good ones
    bad.write_bytes(b"this is no video" * 100)
    result = upscale(folder, "-o", tmp_path / "out", "--recursive", "--json")
    assert result.exit_code == 1
    assert tree(tmp_path / "out") == {"a_bicubic_x2.mp4", "sub/deep/b_bicubic_x2.mkv"}
    reported = events(result.stdout)
    assert [one["input"] for one in reported if one["event"] == "error"] == [str(bad)]
    assert sum(one["event"] == "done" for one in reported) == 2
    assert reported[-1] == {"event": "finished", "inputs": 3, "failed": 1}
    assert str(bad) in result.stderr


def test_a_second_run_over_a_folder_upscales_only_new_videos(folder: Path) -> None:
    assert upscale(folder, "-r", "-q").exit_code == 0
    first = tree(folder)
    make_clip(folder / "new.mp4", frames=2)
    result = upscale(folder, "-r", "--skip-existing", "--json")
    assert result.exit_code == 0
    reported = events(result.stdout)
    assert sum(one["event"] == "skipped" for one in reported) == 2
    assert tree(folder) == first | {"new.mp4", "new_bicubic_x2.mp4"}


@pytest.mark.parametrize("place", ["out", ".", ".."])
def test_outputs_of_an_earlier_run_are_not_inputs(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = tree(folder.parent)
    for _ in range(2):
        done = upscale(folder, "-r", "-o", place, "-q", "--skip-existing")
        assert done.exit_code == 0
    written = {p.split("/")[-1] for p in tree(folder.parent) - before}
    assert written == {"a_bicubic_x2.mp4", "b_bicubic_x2.mkv"}


def test_a_folder_without_videos_is_an_input_error(tmp_path: Path) -> None:
    result = upscale(tmp_path)
    assert result.exit_code == 3
    assert "subfolders are searched with --recursive" in one_line(result)


def test_several_videos_are_refused_for_a_single_output_file(folder: Path, tmp_path: Path) -> None:
    result = upscale(folder, "-r", "-o", tmp_path / "out.mp4")
    assert result.exit_code == 2
    assert "need a folder" in one_line(result)


def test_an_output_folder_that_cannot_be_created_exits_with_two(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = upscale(folder, "-o", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "file" / "out") in one_line(result)


def test_a_terminated_folder_run_does_not_start_the_next_video(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in "ab":
        make_clip(videos / f"{name}.mp4", size=(192, 128), frames=300, audio=False)
    command = ["upscale", videos, "-o", tmp_path / "out", "--json", "--segment-seconds", "0.2"]
    with started(*command) as process:
        wait_for(process, "segment")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 6
    assert [one["event"] for one in events(out)].count("start") == 0
    assert len(err.splitlines()) == 1
    assert tree(tmp_path / "out").isdisjoint({"a_reel_x2.mp4", "b_reel_x2.mp4"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.mp4", None, "no such file"),
        ("empty.mp4", b"", "empty"),
        ("garbage.mp4", b"garbage" * 300, "not a readable video"),
        ("text.mkv", b"Hello, world.\n", "not a readable video"),
    ],
)
def test_an_input_that_is_not_a_video_exits_with_three(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    result = upscale(path)
    assert result.exit_code == 3
    assert str(path) in one_line(result)
    assert message in result.stderr


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
    ("arguments", "message"),
    [
        (["-m", "reel-fats"], "Did you mean reel-fast?"),
        (["-m", "nothing-like-it"], "Known models"),
        (["-s", "3"], "--scale 3: reel exists for 2x and 4x"),
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
def test_a_request_that_cannot_be_fulfilled_exits_with_two(
    arguments: list[str],
    message: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    target = [] if "-o" in arguments else ["-o", "out.mp4"]
    result = run("upscale", clip, *target, *arguments)
    assert result.exit_code == 2
    assert any(word in one_line(result) for word in message.split("|"))
    assert list(tmp_path.iterdir()) == []


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
def test_an_unreadable_model_file_exits_with_three(
    content: bytes, clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    result = run("upscale", clip, "-o", tmp_path / "o.mp4", "-m", path)
    assert result.exit_code == 3
    assert str(path) in one_line(result)


def test_a_missing_device_exits_with_four(clip: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = upscale(clip, "-o", tmp_path / "out.mp4", "--device", "cuda", "-q")
    assert result.exit_code == 4
    assert "no CUDA GPU" in one_line(result)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_another_run_is_writing_exits_with_six(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    other = Journal(output, {})
    result = upscale(clip, "-o", output, "-q")
    other.close()
    assert result.exit_code == 6
    assert "another run is writing this output" in one_line(result)


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


def test_two_inputs_with_one_output_name_do_not_replace_each_other(
    clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.avi", "a.wmv"):  # by their names; both become .mp4
        (folder / name).write_bytes(clip.read_bytes())
    result = run("upscale", folder, "-o", tmp_path / "out", "-m", "bicubic", "--overwrite")
    assert result.exit_code == 1
    assert "was already written for another input of this run" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_bicubic_x2.mp4"]


def test_live_without_a_pipe_exits_with_two(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=2, audio=False)
    done = sharpreel("upscale", clip, "--live")
    assert done.returncode == 2
    assert "--live is for pipes" in done.stderr
