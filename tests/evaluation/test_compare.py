"""Scores of two videos, and what is rejected."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.errors import UsageError
from sharpreel.evaluation import compare
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.evaluation.metrics.seams import seam_in_time
from sharpreel.media import reader as video_reader
from sharpreel.media.frame import Frame
from tests.support.evaluation import SIZE, lossless, noisy
from tests.support.videos import make_clip, moving, write_frames


def test_both_are_measured_against_the_reference(
    trio: tuple[Path, Path, Path], reference: list[Any], tmp_path: Path
) -> None:
    reported: list[tuple[int, int | None]] = []
    found = compare.compare(
        *trio, tmp_path / "out.mp4", on_progress=lambda done, total: reported.append((done, total))
    )
    assert found.a_scores is not None
    assert found.b_scores is not None
    expected = [psnr_y(x, y) for x, y in zip(noisy(reference, 4), reference, strict=True)]
    assert [score.psnr for score in found.a_scores.frames] == expected
    assert found.a_scores.psnr > found.b_scores.psnr
    assert found.b_scores.tof is not None
    assert found.reference_warping_error is not None
    assert reported == [(k, 16) for k in range(1, 17)]
    json.dumps(found.as_dict(), allow_nan=False)


def test_seams_of_a_segmented_video_are_measured_against_an_unsegmented_one(
    reference: list[Any], tmp_path: Path
) -> None:
    whole = noisy(reference, 3)
    pieces = [frame.copy() for frame in noisy(whole, 3, 2)]
    for frame in pieces[8:]:
        frame[:] = frame // 2 + 64
    a, b = lossless(tmp_path / "whole.mkv", whole), lossless(tmp_path / "pieces.mkv", pieces)
    found = compare.compare(a, b, out=tmp_path / "out.mp4", seams="t8+,x32")
    assert found.seam_time == seam_in_time(pieces, 8, whole)
    assert found.seam_time is not None
    assert found.seam_time > 3
    assert found.seam_space == pytest.approx(1, abs=0.3)
    assert found.a_scores is None


def test_videos_of_different_depths_are_compared_by_colour(tmp_path: Path) -> None:
    frames = list(moving(SIZE, 3))
    a = lossless(tmp_path / "a.mkv", frames)
    deep = [f.astype(np.uint16) * np.uint16(257) for f in frames]
    b = write_frames(tmp_path / "b.mkv", deep, codec="ffv1", pix_fmt="gbrp16le")
    assert compare.compare(a, b, None, tmp_path / "out.mp4").psnr == math.inf


def test_invalid_arguments_are_rejected_before_the_first_frame(tmp_path: Path) -> None:
    a = make_clip(tmp_path / "a.mp4", frames=3)
    with pytest.raises(UsageError, match=r"ends in \.mp4"):
        compare.compare(a, a, None, tmp_path / "out.mkv")
    with pytest.raises(UsageError, match="one of the videos to compare"):
        compare.compare(a, a, None, a)
    with pytest.raises(UsageError, match="mode='flip' is not known"):
        compare.compare(a, a, None, tmp_path / "out.mp4", mode="flip")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="protocol='P9' is not known"):
        compare.compare(a, a, None, tmp_path / "out.mp4", protocol="P9")


def test_comparing_holds_few_frames_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = lossless(tmp_path / "a.mkv", list(moving((32, 32), 60)))
    most = 0
    alive = 0

    class Counted(video_reader.VideoReader):
        def __iter__(self) -> Iterator[Frame]:
            import weakref

            nonlocal most, alive
            for frame in super().__iter__():

                def gone() -> None:
                    nonlocal alive
                    alive -= 1

                alive += 1
                most = max(most, alive)
                weakref.finalize(frame, gone)
                yield frame
                del frame

    monkeypatch.setattr(video_reader, "VideoReader", Counted)
    compare.compare(a, a, a, tmp_path / "out.mp4", temporal=False)
    assert most <= 6
    assert alive == 0
