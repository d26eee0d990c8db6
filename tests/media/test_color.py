"""Colours are right in and out: matrix, range, HDR, and what a file does not state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharpreel.errors import InputError
from sharpreel.media.color import BT601, BT709, HLG, MATRIX_NAMES, ColorInfo
from sharpreel.media.probe import probe
from tests.support.upscaling import enlarge, read
from tests.support.videos import (
    BARS,
    bars_frame,
    decode_rgb,
    make_bars,
    make_clip,
    patches,
    write_frames,
)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_colours_are_right_after_reading_and_after_writing(
    tmp_path: Path, matrix: str, full: bool
) -> None:
    clip = make_bars(tmp_path / "in.mp4", matrix, full=full)
    frames, _ = read(clip)
    np.testing.assert_allclose(patches(frames[0].pixels), BARS, atol=2)
    enlarge(clip, tmp_path / "out.mp4", crf=8)
    color = probe(tmp_path / "out.mp4").color
    assert (color.matrix_name, color.full_range) == (
        MATRIX_NAMES[{"bt601": 6, "bt709": 1, "bt2020": 9}[matrix]],
        full,
    )
    for frame in decode_rgb(tmp_path / "out.mp4"):
        np.testing.assert_allclose(patches(frame), BARS, atol=3)


def test_untagged_video_upscaled_to_hd_keeps_its_colours_and_states_its_matrix(
    tmp_path: Path,
) -> None:
    clip = make_bars(tmp_path / "in.mp4", "bt601", tagged=False, size=(128, 360), frames=2)
    assert probe(clip).color.guessed
    enlarge(clip, tmp_path / "out.mp4", crf=8)
    color = probe(tmp_path / "out.mp4").color
    assert not color.guessed  # players would take 720 lines for BT.709 otherwise
    assert color.matrix_name == "BT.601"
    np.testing.assert_allclose(patches(decode_rgb(tmp_path / "out.mp4")[0]), BARS, atol=3)


def test_untagged_hd_video_is_taken_for_bt709(tmp_path: Path) -> None:
    clip = make_bars(tmp_path / "in.mp4", "bt709", tagged=False, size=(128, 720), frames=1)
    assert probe(clip).color == ColorInfo(BT709, False, 2, 2, guessed=True)
    np.testing.assert_allclose(patches(read(clip)[0][0].pixels), BARS, atol=2)


def test_rgb_video_becomes_yuv_with_the_matrix_it_states(tmp_path: Path) -> None:
    bars = np.repeat(np.array(BARS, np.uint8)[None], 64, axis=0).repeat(16, axis=1)
    clip = write_frames(tmp_path / "in.mkv", [bars] * 2, codec="ffv1", pix_fmt="bgr0")
    enlarge(clip, tmp_path / "out.mkv", crf=8)
    info = probe(tmp_path / "out.mkv")
    assert info.color == ColorInfo(BT601, False, 2, 2)
    np.testing.assert_allclose(patches(decode_rgb(tmp_path / "out.mkv")[0]), BARS, atol=3)


def test_gray_video_stays_gray(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", pix_fmt="gray", frames=3)
    enlarge(clip, tmp_path / "out.mkv", crf=4)
    shown = decode_rgb(tmp_path / "out.mkv").astype(int)
    assert np.abs(shown - shown.mean(axis=3, keepdims=True)).max() <= 2


def test_hlg_tags_are_kept(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pix_fmt="yuv420p10le", frames=3, color=(9, 9, HLG, 1))
    enlarge(clip, tmp_path / "out.mp4")
    color = probe(tmp_path / "out.mp4").color
    assert color == ColorInfo(matrix=9, full_range=False, primaries=9, transfer=HLG)
    assert color.hdr == "HLG"


def test_an_unknown_matrix_is_refused_instead_of_guessed(tmp_path: Path) -> None:
    frame = bars_frame("bt601", False, (128, 64))
    clip = write_frames(tmp_path / "in.mp4", [frame], color=(8, 2, 2, 1))  # YCgCo
    with pytest.raises(InputError, match=r"colour matrix 8 .* cannot be converted"):
        probe(clip)
