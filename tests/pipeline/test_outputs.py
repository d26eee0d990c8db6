"""Outputs: names, what is refused, and how a folder and a pipe are finished."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sharpreel.errors import NothingToDoError, UsageError, VerificationError
from sharpreel.media.color import BT709, BT2020, RGB, ColorInfo
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame
from sharpreel.pipeline.inputs import PIPE
from sharpreel.pipeline.journal import SegmentRecord
from sharpreel.pipeline.outputs import (
    ImageFolderOutput,
    PipeOutput,
    VideoFileOutput,
    as_read,
    work_folder_of_pipe,
)
from tests.support.plans import a_clip, plan_of
from tests.support.videos import make_clip


def test_an_output_is_named_after_input_model_and_scale(clip: Path) -> None:
    assert plan_of(clip).output == clip.with_name("clip_reel_x2.mp4")
    assert plan_of(clip, model="bicubic", scale=4).output == clip.with_name("clip_bicubic_x4.mp4")


def test_an_output_folder_gets_the_same_name(clip: Path, tmp_path: Path) -> None:
    assert plan_of(clip, tmp_path).output == tmp_path / "clip_reel_x2.mp4"


@pytest.mark.parametrize(
    ("suffix", "codec", "suffix_out"), [("mkv", "libx264", ".mkv"), ("avi", "mpeg4", ".mkv")]
)
def test_the_output_has_the_container_of_the_input_or_matroska(
    suffix: str, codec: str, suffix_out: str, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / f"in.{suffix}", frames=3, codec=codec)
    assert plan_of(source).output.suffix == suffix_out


def test_an_unknown_suffix_is_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.xyz"):
        plan_of(clip, tmp_path / "out.xyz")


def test_an_output_that_is_the_input_is_refused(tmp_path: Path) -> None:
    source = a_clip(tmp_path)
    before = source.read_bytes()
    (tmp_path / "link.mp4").symlink_to(source)
    for output in (source, tmp_path / "link.mp4", tmp_path / "." / "in.mp4"):
        with pytest.raises(UsageError, match="the output is the input"):
            plan_of(source, output, overwrite=True)
    assert source.read_bytes() == before


def test_an_output_that_exists_is_refused_skipped_or_replaced(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"there")
    with pytest.raises(UsageError, match="Give `overwrite`, `skip_existing` or another `output`"):
        plan_of(clip, output)
    with pytest.raises(NothingToDoError, match="exists"):
        plan_of(clip, output, skip_existing=True)
    assert plan_of(clip, output, overwrite=True).output == output
    assert output.read_bytes() == b"there"


def test_a_missing_output_folder_is_named(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        plan_of(clip, tmp_path / "nowhere" / "out.mp4")


def test_an_output_folder_that_is_a_file_is_named(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file does not exist"):
        plan_of(clip, tmp_path / "file" / "out.mp4")


def test_a_folder_that_cannot_be_written_to_is_named(clip: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("only where /proc is")
    with pytest.raises(UsageError, match="/proc cannot be written to"):
        plan_of(clip, Path("/proc/out.mp4"))


def settings(width: int = 8, height: int = 6) -> EncodeSettings:
    return EncodeSettings(
        codec="png",
        pix_fmt="rgb24",
        width=width,
        height=height,
        crf=None,
        preset=None,
        color=ColorInfo(RGB, full_range=True),
        rate=Fraction(25),
        time_base=Fraction(1, 25),
    )


def segment(
    output: ImageFolderOutput, folder: Path, number: int, count: int
) -> tuple[Path, SegmentRecord]:
    """A finished segment of `count` grey frames."""
    part = folder / output.segment_name(number)
    sink = output.sink(part)
    for pts in range(count):
        sink.write(Frame(np.full((6, 8, 3), 10 * number + pts, np.uint8), pts))
    sink.close()
    return part, SegmentRecord(part.name, 0, sink.pts, sink.order, "")


def test_images_of_a_video_are_numbered_through_all_segments(tmp_path: Path) -> None:
    output = ImageFolderOutput(tmp_path / "out", settings())
    parts = [segment(output, tmp_path, number, 2) for number in range(2)]
    finished = output.finish(parts, tmp_path, lambda share: None)
    assert sorted(p.name for p in finished.iterdir()) == [f"{k:08d}.png" for k in range(4)]
    output.check(finished, [record for _, record in parts])
    output.place(finished)
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_images_of_a_folder_keep_their_names(tmp_path: Path) -> None:
    output = ImageFolderOutput(tmp_path / "out", settings(), names=("b.png", "a.png"))
    parts = [segment(output, tmp_path, 0, 2)]
    finished = output.finish(parts, tmp_path, lambda share: None)
    assert {p.name for p in finished.iterdir()} == {"a.png", "b.png"}
    output.check(finished, [record for _, record in parts])


def test_a_missing_image_is_a_verification_error(tmp_path: Path) -> None:
    output = ImageFolderOutput(tmp_path / "out", settings())
    parts = [segment(output, tmp_path, 0, 2)]
    finished = output.finish(parts, tmp_path, lambda share: None)
    next(finished.iterdir()).unlink()
    with pytest.raises(VerificationError, match="1 images were written for 2 frames"):
        output.check(finished, [record for _, record in parts])


def test_other_files_of_an_existing_image_folder_stay(tmp_path: Path) -> None:
    output = ImageFolderOutput(tmp_path / "out", settings())
    output.path.mkdir()
    (output.path / "notes.txt").write_text("mine")
    (output.path / "00000000.png").write_bytes(b"old")
    output.place(output.finish([segment(output, tmp_path, 0, 1)], tmp_path, lambda share: None))
    assert {p.name for p in output.path.iterdir()} == {"notes.txt", "00000000.png"}
    assert (output.path / "00000000.png").read_bytes() != b"old"


def test_a_pipe_has_one_path_and_no_segments() -> None:
    output = PipeOutput(io.BytesIO(), settings())
    assert output.path == PIPE
    assert output.finish([], Path(), lambda share: None) == PIPE
    assert output.encoded_by(settings(16)).settings.width == 16
    with pytest.raises(UsageError, match="A pipe has no path"):
        output.moved(Path("out.mp4"))


def test_y4m_is_stored_in_the_matrix_that_its_size_stands_for() -> None:
    color = ColorInfo(BT709, full_range=False)
    small = as_read(replace(settings(640, 480), color=color))
    large = as_read(replace(settings(1280, 720), color=color))
    assert small.color.matrix != large.color.matrix == BT709
    wide = replace(settings(640, 480), color=ColorInfo(BT2020, full_range=False))
    assert as_read(wide) == wide  # BT.2020 keeps its matrix


def test_the_work_folder_of_a_piped_run_is_removed_after_an_error(tmp_path: Path) -> None:
    output = VideoFileOutput(tmp_path / "out.mp4", settings(), ".mp4", source=None)
    folders: list[Path] = []

    def fail() -> None:
        with work_folder_of_pipe(output) as folder:
            (folder / "part").write_bytes(b"x")
            folders.append(folder)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert folders[0].parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_lacks_a_stream_is_not_placed(clip: Path, tmp_path: Path) -> None:
    silent = make_clip(tmp_path / "silent.mp4", frames=24, audio=False)
    plan = plan_of(clip, tmp_path / "out.mp4", model="bicubic")
    record = SegmentRecord("seg", 0, [0], [0], "")
    with pytest.raises(VerificationError, match="not written, because it would not hold"):
        plan.target.check(silent, [record])
    assert not plan.output.exists()
