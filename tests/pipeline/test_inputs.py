"""Inputs: which videos a path means, and how a file, a folder and a pipe are opened."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from sharpreel.errors import InputError, UsageError
from sharpreel.pipeline.inputs import (
    PIPE,
    ImageFolderInput,
    PipeInput,
    VideoFileInput,
    find_inputs,
    open_source,
)
from tests.support.videos import ffmpeg, make_clip, png


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(folder: Path, output: Path | None = None, recursive: bool = False) -> list[str]:
    """The inputs' names relative to a folder."""
    jobs = find_inputs(folder, output, recursive)
    return [source.relative_to(folder).as_posix() for source, _ in jobs]


def test_a_file_is_one_input_with_the_given_output(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert find_inputs(source, output) == [(source, output)]
    assert find_inputs(source) == [(source, None)]


def test_a_folder_means_its_videos_in_order_of_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.mkv", "a.MP4", "notes.txt", "sub/c.mp4")
    assert found(tmp_path) == ["a.MP4", "b.mkv"]
    assert found(tmp_path, recursive=True) == ["a.MP4", "b.mkv", "sub/c.mp4"]


def test_hidden_files_and_folders_are_not_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "._a.mp4", ".trash/b.mp4")
    assert found(tmp_path, recursive=True) == ["a.mp4"]


def test_segments_of_unfinished_runs_are_not_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a_reel_x2.mp4.sharpreel/seg-00000.mkv")
    assert found(tmp_path, recursive=True) == ["a.mp4"]


@pytest.mark.parametrize("output", [None, "."])
def test_outputs_next_to_their_inputs_are_not_inputs(output: str | None, tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a_reel_x2.mp4", "b_bicubic_x4.mkv", "c_reel_x3.mp4")
    assert found(tmp_path, None if output is None else tmp_path / output) == [
        "a.mp4",
        "c_reel_x3.mp4",  # no model has this scale
    ]


def test_an_output_folder_inside_the_input_folder_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "out/a_reel_x2.mp4", "out/deep/b.mp4")
    assert found(tmp_path, tmp_path / "out", recursive=True) == ["a.mp4"]


def test_outputs_keep_the_tree_of_the_input_folder(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.mp4", "sub/deep/b.mp4")
    jobs = find_inputs(tmp_path / "in", tmp_path / "out", recursive=True)
    assert [output for _, output in jobs] == [tmp_path / "out", tmp_path / "out" / "sub" / "deep"]
    assert (tmp_path / "out" / "sub" / "deep").is_dir()


def test_a_folder_of_images_is_one_input(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    assert find_inputs(tmp_path) == [(tmp_path, None)]


def test_a_folder_without_videos_and_images_is_an_input_error(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "sub/a.mp4")
    with pytest.raises(InputError, match="recursive=True"):
        find_inputs(tmp_path)


def test_several_videos_are_refused_for_one_file(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.mp4", "b.mp4")
    with pytest.raises(UsageError, match="several videos need a folder"):
        find_inputs(tmp_path / "in", tmp_path / "out.mp4")


def test_an_output_folder_that_cannot_be_created_is_a_usage_error(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.mp4", "file")
    with pytest.raises(UsageError, match="cannot be created"):
        find_inputs(tmp_path / "in", tmp_path / "file" / "out")


def test_a_video_is_opened_from_a_timestamp(clip: Path) -> None:
    opened = open_source(clip, strict=False, alpha=False, stdin=None)
    assert isinstance(opened, VideoFileInput)
    pts = [frame.pts for frame in opened.open()]
    assert len(pts) == 24
    assert [frame.pts for frame in opened.open(pts[20])] == pts[20:]


def test_a_folder_of_images_is_opened_as_a_video(tmp_path: Path) -> None:
    for number in range(3):
        image = np.full((8, 10, 3), 40 * number, np.uint8)
        (tmp_path / f"{number}.png").write_bytes(png(image))
    opened = open_source(tmp_path, strict=False, alpha=False, stdin=None)
    assert isinstance(opened, ImageFolderInput)
    assert (opened.info.width, opened.info.height, opened.info.num_frames) == (10, 8, 3)
    assert [frame.pixels[0, 0, 0] for frame in opened.open(1)] == [40, 80]


def test_an_input_can_be_read_under_another_path(clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    moved = open_source(clip, strict=False, alpha=False, stdin=None).moved(copy)
    assert moved.info.path == str(copy)
    assert len(list(moved.open())) == 24


def test_a_pipe_is_read_from_stdin_and_has_no_path(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3, audio=False)
    stream = io.BytesIO(ffmpeg("-i", clip, "-f", "yuv4mpegpipe", "-"))
    opened = open_source(PIPE, strict=False, alpha=False, stdin=stream)
    assert isinstance(opened, PipeInput)
    assert len(list(opened.open())) == 3
    with pytest.raises(UsageError, match="pipe"):
        opened.moved(tmp_path)


def test_a_pipe_without_stdin_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="needs stdin"):
        open_source(PIPE, strict=False, alpha=False, stdin=None)


def test_a_missing_input_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "gone.mp4", strict=False, alpha=False, stdin=None)
