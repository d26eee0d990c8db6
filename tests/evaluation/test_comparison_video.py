"""The wipe and the side-by-side video."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.evaluation import compare, comparison_video
from sharpreel.media.probe import probe
from tests.support.evaluation import lossless
from tests.support.videos import decode_rgb, make_clip, moving, video_pts


def test_the_wipe_keeps_times_and_shows_a_left_and_b_right(
    reference: list[Any], tmp_path: Path
) -> None:
    pts = [0, 3000, 9000, 12000, 22000, 24000]
    dark = [np.full_like(f, 40) for f in reference[:6]]
    bright = [np.full_like(f, 200) for f in reference[:6]]
    a = lossless(tmp_path / "a.mkv", dark, pts=pts)
    b = lossless(tmp_path / "b.mkv", bright, pts=pts)
    out = tmp_path / "out.mp4"
    found = compare.compare(a, b, None, out)
    assert found.frames == 6
    begin = video_pts(a)[0]
    assert video_pts(out) == [at - begin for at in video_pts(a)]
    frames = decode_rgb(out)
    assert frames.shape == (6, 48, 64, 3)
    for frame, at in zip(frames, video_pts(out), strict=True):
        line = comparison_video.line_at(64, float(at))
        assert abs(frame[:, : line - 6].mean() - 40) < 3
        assert abs(frame[:, line + 6 :].mean() - 200) < 3
    assert found.a_scores is None


def test_the_line_of_a_wipe_moves_slowly_inside_the_frame() -> None:
    places = [comparison_video.line_at(640, t / 25) for t in range(400)]
    assert places[0] == 320
    assert min(places) == 64
    assert max(places) == 576
    assert max(abs(x - y) for x, y in itertools.pairwise(places)) <= 9


def test_side_by_side_shows_both_frames_and_pads_odd_sides(tmp_path: Path) -> None:
    frames = list(moving((35, 21), 4))
    a = lossless(tmp_path / "a.mkv", frames)
    b = lossless(tmp_path / "b.mkv", frames)
    found = compare.compare(a, b, None, tmp_path / "out.mp4", mode="side-by-side")
    info = probe(found.video)
    assert (info.width, info.height) == (70, 22)
    assert found.psnr == math.inf


def test_the_times_of_a_are_kept_exactly(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    a = make_clip(tmp_path / "a.mp4", frames=8, rate=rate, audio=False)
    found = compare.compare(a, a, None, tmp_path / "out.mp4")
    assert video_pts(found.video) == [k / rate for k in range(8)]
