"""Videos in step: offsets, lengths, sizes, times and order of frames."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.errors import InputError
from sharpreel.evaluation import alignment, compare
from tests.support.evaluation import SIZE, lossless, noisy
from tests.support.videos import make_clip, moving, video_pts


def test_different_sizes_are_reported_with_both_sizes(tmp_path: Path) -> None:
    a = make_clip(tmp_path / "a.mp4", frames=3, size=(64, 36))
    b = make_clip(tmp_path / "b.mp4", frames=3, size=(128, 72))
    with pytest.raises(InputError, match=r"frame 0: 64x36 in .*a.mp4 against 128x72 in .*b.mp4"):
        compare.compare(a, b, None, tmp_path / "out.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_different_lengths_are_reported_with_the_missing_frame(
    reference: list[Any], tmp_path: Path
) -> None:
    a = lossless(tmp_path / "a.mkv", reference)
    b = lossless(tmp_path / "b.mkv", reference[:11])
    with pytest.raises(InputError, match=r"frame 11: only in .*a.mkv; .*b.mkv ends after 11 fr"):
        compare.compare(a, b, None, tmp_path / "out.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mkv"]


def test_different_rates_are_reported_with_frame_and_times(
    reference: list[Any], tmp_path: Path
) -> None:
    a = lossless(tmp_path / "a.mkv", reference, rate=25)
    b = lossless(tmp_path / "b.mkv", reference, rate=30)
    with pytest.raises(InputError, match=r"frame \d+: shown at .*\(25 frames.*against .*\(30\)"):
        compare.compare(a, b, None, tmp_path / "out.mp4")


def test_swapped_frames_are_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (10, 6, 8, 3)).astype(np.uint8)
    frames = [f.repeat(8, 0).repeat(8, 1) for f in coarse]
    a = lossless(tmp_path / "a.mkv", frames)
    swapped = [*frames[:4], frames[5], frames[4], *frames[6:]]
    b = lossless(tmp_path / "b.mkv", swapped)
    with pytest.raises(InputError, match=r"frames 4 and 5 of .*b.mkv are in the other order"):
        compare.compare(a, b, None, tmp_path / "out.mp4")


@pytest.mark.parametrize("offset", [-7, -1, 0, 3, 30])
def test_the_offset_of_the_content_is_found(offset: int, tmp_path: Path) -> None:
    frames = list(moving(SIZE, 60))
    early, late = frames[30 : 30 + 24], frames[30 - offset : 54 - offset]
    a = lossless(tmp_path / "a.mkv", early if offset < 30 else frames[30:60])
    b = lossless(tmp_path / "b.mkv", noisy(late, 3) if offset < 30 else frames[0:60])
    assert alignment.find_offset(a, b) == offset


def test_aligned_videos_are_compared_on_their_common_frames(tmp_path: Path) -> None:
    frames = list(moving(SIZE, 24))
    a = lossless(tmp_path / "a.mkv", frames[:20])
    b = lossless(tmp_path / "b.mkv", frames[4:])
    reference = lossless(tmp_path / "reference.mkv", frames)
    found = compare.compare(a, b, reference, tmp_path / "out.mp4", align=True)
    assert (found.offset, found.reference_offset) == (-4, 0)
    assert found.frames == 16
    assert found.psnr == math.inf
    assert any("4 frames earlier" in note for note in found.notes)
    assert any("continues after the 16 frames" in note for note in found.notes)
    assert len(video_pts(found.video)) == 16


def test_unrelated_videos_cannot_be_aligned(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    paths = [
        lossless(tmp_path / f"{k}.mkv", list(rng.integers(0, 255, (12, 48, 64, 3), np.uint8)))
        for k in range(2)
    ]
    with pytest.raises(InputError, match="no offset of up to 30 frames aligns them"):
        compare.compare(paths[0], paths[1], None, tmp_path / "out.mp4", align=True)
