from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.errors import NothingToDoError, UsageError
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
