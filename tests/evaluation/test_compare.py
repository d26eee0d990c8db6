"""compare.py: two videos side by side, in numbers and pictures."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation import compare
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.evaluation.metrics.seams import seam_in_time
from sharpreel.media import images
from sharpreel.media import reader as video_reader
from sharpreel.media.frame import Frame
from sharpreel.media.probe import probe
from tests.support.videos import decode_rgb, make_clip, moving, video_pts, write_frames

SIZE = (64, 48)


def lossless(path: Path, frames: list[Any], **more: Any) -> Path:
    """An FFV1 file of RGB: what is written is what is read."""
    return write_frames(path, frames, codec="ffv1", pix_fmt="bgr0", **more)


def noisy(frames: list[Any], sigma: float, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.clip(f + rng.normal(0, sigma, f.shape), 0, 255).astype(np.uint8) for f in frames]


@pytest.fixture(scope="module")
def truth() -> list[Any]:
    return list(moving(SIZE, 16))


@pytest.fixture(scope="module")
def trio(truth: list[Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A better video, a worse one and the truth."""
    folder = tmp_path_factory.mktemp("trio")
    return (
        lossless(folder / "a.mkv", noisy(truth, 4)),
        lossless(folder / "b.mkv", noisy(truth, 12, 1)),
        lossless(folder / "truth.mkv", truth),
    )


def test_both_are_measured_against_the_reference(
    trio: tuple[Path, Path, Path], truth: list[Any], tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    found = compare.compare(
        *trio, tmp_path / "out.mp4", tell=lambda done, total: told.append((done, total))
    )
    assert found.a_scores is not None
    assert found.b_scores is not None
    expected = [psnr_y(x, y) for x, y in zip(noisy(truth, 4), truth, strict=True)]
    assert [score.psnr for score in found.a_scores.frames] == expected
    assert found.a_scores.psnr > found.b_scores.psnr
    assert found.b_scores.tof is not None
    assert found.reference_warping_error is not None
    assert told == [(k, 16) for k in range(1, 17)]
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_video_made_in_pieces_shows_its_joins_against_one_made_whole(
    truth: list[Any], tmp_path: Path
) -> None:
    whole = noisy(truth, 3)
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


def test_the_wipe_has_every_frame_at_its_time_and_shows_a_left_and_b_right(
    truth: list[Any], tmp_path: Path
) -> None:
    pts = [0, 3000, 9000, 12000, 22000, 24000]
    dark = [np.full_like(f, 40) for f in truth[:6]]
    bright = [np.full_like(f, 200) for f in truth[:6]]
    a = lossless(tmp_path / "a.mkv", dark, pts=pts)
    b = lossless(tmp_path / "b.mkv", bright, pts=pts)
    out = tmp_path / "out.mp4"
    found = compare.compare(a, b, None, out)
    assert found.frames == 6
    begin = video_pts(a)[0]
    assert video_pts(out) == [at - begin for at in video_pts(a)]
    pictures = decode_rgb(out)
    assert pictures.shape == (6, 48, 64, 3)
    for picture, at in zip(pictures, video_pts(out), strict=True):
        line = compare.line_at(64, float(at))
        assert abs(picture[:, : line - 6].mean() - 40) < 3
        assert abs(picture[:, line + 6 :].mean() - 200) < 3
    assert found.a_scores is None


def test_the_line_moves_slowly_and_stays_inside() -> None:
    places = [compare.line_at(640, t / 25) for t in range(400)]
    assert places[0] == 320
    assert min(places) == 64
    assert max(places) == 576
    assert max(abs(x - y) for x, y in itertools.pairwise(places)) <= 9


def test_side_by_side_shows_both_whole_and_odd_sides_grow_by_one(tmp_path: Path) -> None:
    frames = list(moving((35, 21), 4))
    a = lossless(tmp_path / "a.mkv", frames)
    b = lossless(tmp_path / "b.mkv", frames)
    found = compare.compare(a, b, None, tmp_path / "out.mp4", mode="side-by-side")
    info = probe(found.video)
    assert (info.width, info.height) == (70, 22)
    assert found.psnr == math.inf


def test_the_contact_sheet_shows_six_frames_spread_over_time(
    trio: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    found = compare.compare(*trio, tmp_path / "out.mp4", temporal=False)
    sheet = images.read_rgb(found.sheet)
    width, height = SIZE
    assert sheet.shape == (6 * (height + 26) + 8, 4 * (width + 8) + 8, 3)
    first = images.read_rgb(found.sheet)[26 : 26 + height, 8 + 3 * (width + 8) :][:, :width]
    assert (first == next(iter(moving(SIZE, 1)))).all()  # the reference's first frame


@pytest.mark.parametrize("count", [1, 5, 6, 13, 50, 1000])
def test_a_sheet_keeps_few_pictures_of_any_number_of_frames(count: int) -> None:
    sheet = compare._Sheet()
    frame = np.zeros((4, 4, 3), np.uint8)
    for index in range(count):
        sheet.offer(index, [frame, frame])
        assert len(sheet._rows) <= 12
    kept = [index for index, _ in sheet._rows]
    assert kept[0] == 0
    assert kept[-1] >= count // 2
    assert sheet.picture(["a", "b", "d"]).shape[0] == min(count, 6) * (4 + 26) + 8


def test_other_sizes_are_said_with_the_frame_and_both_sizes(tmp_path: Path) -> None:
    a = make_clip(tmp_path / "a.mp4", frames=3, size=(64, 36))
    b = make_clip(tmp_path / "b.mp4", frames=3, size=(128, 72))
    with pytest.raises(InputError, match=r"frame 0: 64x36 in .*a.mp4 against 128x72 in .*b.mp4"):
        compare.compare(a, b, None, tmp_path / "out.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_another_length_is_said_with_the_frame_that_is_missing(
    truth: list[Any], tmp_path: Path
) -> None:
    a = lossless(tmp_path / "a.mkv", truth)
    b = lossless(tmp_path / "b.mkv", truth[:11])
    with pytest.raises(InputError, match=r"frame 11: only in .*a.mkv; .*b.mkv ends after 11 fr"):
        compare.compare(a, b, None, tmp_path / "out.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mkv"]


def test_another_rate_is_said_with_the_frame_and_both_times(
    truth: list[Any], tmp_path: Path
) -> None:
    a = lossless(tmp_path / "a.mkv", truth, rate=25)
    b = lossless(tmp_path / "b.mkv", truth, rate=30)
    with pytest.raises(InputError, match=r"frame \d+: shown at .*\(25 frames.*against .*\(30\)"):
        compare.compare(a, b, None, tmp_path / "out.mp4")


def test_frames_in_another_order_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (10, 6, 8, 3)).astype(np.uint8)
    frames = [f.repeat(8, 0).repeat(8, 1) for f in coarse]
    a = lossless(tmp_path / "a.mkv", frames)
    swapped = [*frames[:4], frames[5], frames[4], *frames[6:]]
    b = lossless(tmp_path / "b.mkv", swapped)
    with pytest.raises(InputError, match=r"frames 4 and 5 of .*b.mkv stand in the other order"):
        compare.compare(a, b, None, tmp_path / "out.mp4")


@pytest.mark.parametrize("offset", [-7, -1, 0, 3, 30])
def test_align_finds_how_many_frames_later_the_content_comes(offset: int, tmp_path: Path) -> None:
    frames = list(moving(SIZE, 60))
    early, late = frames[30 : 30 + 24], frames[30 - offset : 54 - offset]
    a = lossless(tmp_path / "a.mkv", early if offset < 30 else frames[30:60])
    b = lossless(tmp_path / "b.mkv", noisy(late, 3) if offset < 30 else frames[0:60])
    assert compare.find_offset(a, b) == offset


def test_aligned_videos_are_compared_where_both_are_and_it_is_said(tmp_path: Path) -> None:
    frames = list(moving(SIZE, 24))
    a = lossless(tmp_path / "a.mkv", frames[:20])
    b = lossless(tmp_path / "b.mkv", frames[4:])
    reference = lossless(tmp_path / "truth.mkv", frames)
    found = compare.compare(a, b, reference, tmp_path / "out.mp4", align=True)
    assert (found.offset, found.reference_offset) == (-4, 0)
    assert found.frames == 16
    assert found.psnr == math.inf
    assert any("4 frames earlier" in note for note in found.notes)
    assert any("goes on after the 16 frames" in note for note in found.notes)
    assert len(video_pts(found.video)) == 16


def test_videos_that_have_nothing_in_common_are_not_aligned(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    paths = [
        lossless(tmp_path / f"{k}.mkv", list(rng.integers(0, 255, (12, 48, 64, 3), np.uint8)))
        for k in range(2)
    ]
    with pytest.raises(InputError, match="no offset of up to 30 frames makes them alike"):
        compare.compare(paths[0], paths[1], None, tmp_path / "out.mp4", align=True)


def test_deep_and_shallow_videos_are_compared_as_what_they_show(tmp_path: Path) -> None:
    frames = list(moving(SIZE, 3))
    a = lossless(tmp_path / "a.mkv", frames)
    deep = [f.astype(np.uint16) * np.uint16(257) for f in frames]
    b = write_frames(tmp_path / "b.mkv", deep, codec="ffv1", pix_fmt="gbrp16le")
    assert compare.compare(a, b, None, tmp_path / "out.mp4").psnr == math.inf


def test_what_cannot_be_made_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    a = make_clip(tmp_path / "a.mp4", frames=3)
    with pytest.raises(UsageError, match=r"ends in \.mp4"):
        compare.compare(a, a, None, tmp_path / "out.mkv")
    with pytest.raises(UsageError, match="one of the videos to compare"):
        compare.compare(a, a, None, a)
    with pytest.raises(UsageError, match="no mode 'flip'"):
        compare.compare(a, a, None, tmp_path / "out.mp4", mode="flip")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no protocol 'P9'"):
        compare.compare(a, a, None, tmp_path / "out.mp4", protocol="P9")


def test_no_frame_is_kept_longer_than_it_is_needed(
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


def test_the_clock_of_a_is_kept_exactly(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    a = make_clip(tmp_path / "a.mp4", frames=8, rate=rate, audio=False)
    found = compare.compare(a, a, None, tmp_path / "out.mp4")
    assert video_pts(found.video) == [k / rate for k in range(8)]
