"""The schedule of frames: segments, warm-up, scene cuts, windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sharpreel.media import reader as video_reader
from sharpreel.media.frame import Frame
from sharpreel.media.probe import probe
from sharpreel.pipeline.schedule import (
    SEGMENT_SECONDS,
    ClipWindow,
    FrameCue,
    clip_windows,
    frame_cues,
)
from tests.support.photographs import ASTRONAUT, CAT, COFFEE, pan, still
from tests.support.videos import Pixels, make_clip

RATE = 32  # so that times are exact in floating point


UNIT = Fraction(1, RATE)


def stream(
    images: Iterable[Pixels], keys: Iterable[int] = (0,), pts: list[int] | None = None
) -> list[Frame]:
    """Frames one tick apart, or at `pts`; those numbered in `keys` are key frames."""
    places = set(keys)
    return [
        Frame(pixels, index if pts is None else pts[index], 1, key=index in places)
        for index, pixels in enumerate(images)
    ]


def grey(frames: int) -> list[Pixels]:
    return [np.full((8, 8, 3), 128, np.uint8)] * frames


def plain(cues: Iterable[FrameCue]) -> list[tuple[int, int, bool, bool]]:
    return [(c.segment, c.frame.pts, c.fresh, c.shown) for c in cues]


def shown(cues: Iterable[FrameCue]) -> list[int]:
    return [c.frame.pts for c in cues if c.shown]


def starts(cues: Iterable[FrameCue]) -> list[int]:
    """pts of the first shown frame of each segment."""
    found: dict[int, int] = {}
    for one in cues:
        if one.shown:
            found.setdefault(one.segment, one.frame.pts)
    return list(found.values())


def test_only_a_cut_resets_the_state() -> None:
    frames = stream([*still(ASTRONAUT, 7), *still(COFFEE, 5)])
    cues = list(frame_cues(frames, UNIT, warm_up=3))
    assert [c.frame.pts for c in cues if c.fresh] == [0, 7]
    assert all(c.shown for c in cues)


@pytest.mark.parametrize("warm_up", [0, 1, 5, 12])
@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 11, 14, 15, 16, 40, 101])
def test_every_frame_is_shown_once_and_in_order(count: int, warm_up: int) -> None:
    frames = stream(grey(count), keys=range(0, count, 7))
    cues = list(frame_cues(frames, UNIT, warm_up, segment_seconds=10 / RATE))
    assert shown(cues) == list(range(count))
    segments = [c.segment for c in cues]
    assert segments == sorted(segments)
    assert set(segments) == set(range(segments[-1] + 1))


def test_an_empty_video_has_no_cue() -> None:
    assert list(frame_cues([], UNIT, warm_up=4)) == []


def test_a_segment_ends_at_the_first_key_frame_after_its_time() -> None:
    frames = stream(grey(60), keys=[0, 8, 13, 22, 25, 37])
    assert starts(frame_cues(frames, UNIT, 0, segment_seconds=10 / RATE)) == [0, 13, 25, 37, 52]


def test_a_segment_ends_at_a_scene_cut_after_its_time() -> None:
    frames = stream([*still(ASTRONAUT, 12), *still(COFFEE, 12)])
    assert starts(frame_cues(frames, UNIT, 2, segment_seconds=10 / RATE)) == [0, 12]


def test_a_segment_without_key_frames_ends_at_half_as_much_again() -> None:
    assert starts(frame_cues(stream(grey(40)), UNIT, 3, segment_seconds=10 / RATE)) == [0, 15, 30]


def test_a_segment_has_at_most_max_frames_frames() -> None:
    frames = stream(grey(10), pts=[0] * 10)  # a clock that stands still
    segments = [c.segment for c in frame_cues(frames, UNIT, 0, max_frames=4)]
    assert segments == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_without_a_bound_and_timestamps_all_frames_are_one_segment() -> None:
    cues = frame_cues(stream(grey(3000)), Fraction(0), 0, max_frames=None)
    assert {c.segment for c in cues} == {0}


def test_the_length_of_a_segment_is_measured_in_time_and_not_in_frames() -> None:
    pts = [0, 1, 2, 3, 100, 101, 102, 350, 351]
    frames = stream(grey(9), keys=range(9), pts=pts)
    assert starts(frame_cues(frames, Fraction(1, 10), 0, segment_seconds=SEGMENT_SECONDS)) == [
        0,
        100,
        350,
    ]


@pytest.mark.parametrize("warm_up", [0, 1, 4, 10])
def test_a_segment_in_a_scene_warms_up_with_the_frames_before_it(warm_up: int) -> None:
    cues = list(frame_cues(stream(grey(30)), UNIT, warm_up, segment_seconds=10 / RATE))
    second = [c for c in cues if c.segment == 1]
    assert [c.frame.pts for c in second if not c.shown] == list(range(15 - warm_up, 15))
    assert [c.fresh for c in second] == [True] + [False] * (len(second) - 1)


def test_warm_up_reaches_no_further_back_than_the_first_frame() -> None:
    cues = list(frame_cues(stream(grey(20)), UNIT, 50, segment_seconds=10 / RATE))
    assert [c.frame.pts for c in cues if not c.shown] == list(range(15))


def test_warm_up_reaches_into_several_short_segments() -> None:
    frames = stream(grey(12), keys=range(12))
    cues = [c for c in frame_cues(frames, UNIT, 8, segment_seconds=3 / RATE) if c.segment == 3]
    assert plain(cues)[:9] == [
        *((3, pts, pts == 1, False) for pts in range(1, 9)),
        (3, 9, False, True),
    ]


def test_warm_up_does_not_reach_across_a_cut() -> None:
    frames = stream([*still(ASTRONAUT, 11), *still(COFFEE, 14)])
    cues = list(frame_cues(frames, UNIT, 16, segment_seconds=14 / RATE))
    second = plain(c for c in cues if c.segment == 1)
    assert second == [
        *((1, pts, pts == 11, False) for pts in range(11, 21)),
        *((1, pts, False, True) for pts in range(21, 25)),
    ]


def test_a_segment_that_begins_at_a_cut_needs_no_warm_up() -> None:
    frames = stream([*still(ASTRONAUT, 12), *still(COFFEE, 4)])
    second = [c for c in frame_cues(frames, UNIT, 6, segment_seconds=10 / RATE) if c.segment == 1]
    assert plain(second)[0] == (1, 12, True, True)


def random_video(count: int, seed: int) -> list[Frame]:
    """Scenes of random length, panned or still, key frames at random, uneven times."""
    random = np.random.default_rng(seed)
    images: list[Pixels] = []
    while len(images) < count:
        source = (ASTRONAUT, COFFEE, CAT)[random.integers(3)]
        length = int(random.integers(1, 19))
        make = random.integers(2)
        images += pan(source, length, 3) if make else still(source, length)
    keys = np.flatnonzero(random.random(count) < 0.15)
    pts = np.cumsum(random.choice([1, 1, 1, 2, 5], count)).tolist()
    return stream(images[:count], {0, *keys.tolist()}, pts)


@pytest.mark.parametrize("segment_frames", [1, 4, 10])
@pytest.mark.parametrize("warm_up", [0, 1, 5, 16])
@pytest.mark.parametrize("seed", range(3))
def test_the_rest_after_any_segment_is_cued_as_in_an_uncut_run(
    seed: int, warm_up: int, segment_frames: int
) -> None:
    frames = random_video(70, seed)
    seconds = segment_frames / RATE
    uncut = list(frame_cues(frames, UNIT, warm_up, segment_seconds=seconds))
    assert shown(uncut) == [f.pts for f in frames]
    for done in range(1, uncut[-1].segment + 1):
        until = max(c.frame.pts for c in uncut if c.shown and c.segment < done)
        place = next(i for i, f in enumerate(frames) if f.pts == until) + 1
        left = frames[max(place - max(warm_up, 1), 0) :]
        resumed = frame_cues(left, UNIT, warm_up, done, until, seconds)
        assert plain(resumed) == plain(c for c in uncut if c.segment >= done)


def test_cues_are_yielded_as_frames_arrive() -> None:
    taken: list[int] = []

    def frames() -> Iterable[Frame]:
        for frame in stream(grey(50)):
            taken.append(frame.pts)
            yield frame

    for one in frame_cues(frames(), UNIT, 3):
        assert taken[-1] == one.frame.pts


def test_the_frames_of_a_real_file_are_cut_at_its_key_frames(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "clip.mp4", frames=40, options={"g": "8", "sc_threshold": "0"}, audio=False
    )
    info = probe(path)
    frames = list(video_reader.VideoReader(info))
    cues = list(frame_cues(frames, info.time_base, 0, segment_seconds=0.4))
    keys = [f.pts for f in frames if f.key]
    assert starts(cues) == keys[::2]  # every 16 frames: the first key frame 10 frames on


def scenes(*lengths: int) -> list[Frame]:
    """Scenes of these many frames, each of another grey; a key frame every seven."""
    images = [
        np.full((8, 8, 3), 60 * k % 256, np.uint8) for k, n in enumerate(lengths) for _ in range(n)
    ]
    return stream(images, keys=range(0, sum(lengths), 7))


def without_state(
    frames: list[Frame], done_until: int | None = None, first: int = 0
) -> list[FrameCue]:
    seconds = 9 * float(UNIT)
    return list(frame_cues(frames, UNIT, 0, first, done_until, seconds, keeps_state=False))


def neighbours(part: ClipWindow) -> list[tuple[int, list[int], list[int]]]:
    """(frame, those before it, those after it) by pts, for each frame a window makes."""
    all_pts = [f.pts for f in (*part.before, *(c.frame for c in part.cues), *part.after)]
    first = len(part.before)
    return [
        (all_pts[k], all_pts[:k], all_pts[k + 1 :]) for k in range(first, first + len(part.cues))
    ]


@pytest.mark.parametrize("length", [1, 3, 5])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 1), (3, 3), (2, 0), (0, 4)])
def test_every_frame_is_computed_once_with_the_neighbours_of_its_scene(
    length: int, before: int, after: int
) -> None:
    lengths = (5, 3, 12, 2)
    computed = [
        one
        for part in clip_windows(without_state(scenes(*lengths)), length, before, after)
        for one in neighbours(part)
    ]
    assert [pts for pts, _, _ in computed] == list(range(sum(lengths)))
    ends = np.cumsum(lengths)
    for pts, past, future in computed:
        scene = int(np.searchsorted(ends, pts, side="right"))
        first, last = int(ends[scene]) - lengths[scene], int(ends[scene]) - 1
        # At least as many as requested, as far as the scene reaches, and nothing of another scene.
        assert past[-before or len(past) :] == list(range(max(first, pts - before), pts))
        assert future[:after] == list(range(pts + 1, min(last, pts + after) + 1))
        assert all(first <= p <= last for p in (*past, *future))


def test_a_window_ends_with_its_segment() -> None:
    cues = without_state(scenes(40))
    for part in clip_windows(cues, 100, 2, 2):
        assert len({c.segment for c in part.cues}) == 1
    assert len({c.segment for c in cues}) > 2


@pytest.mark.parametrize("done", [13, 20, 27])
def test_windows_of_a_resumed_run_are_those_of_an_uncut_run(done: int) -> None:
    past, after = 3, 2
    frames = scenes(6, 9, 3, 16)
    cues = without_state(frames)
    borders = [c.frame.pts for a, c in itertools.pairwise(cues) if c.segment != a.segment]
    begin = next(b for b in borders if b >= done)
    number = next(c.segment for c in cues if c.frame.pts == begin)
    whole = [
        (c.frame.pts, neighbours(part))
        for part in clip_windows(cues, 4, past, after)
        for c in part.cues
        if c.frame.pts >= begin
    ]
    left = without_state(frames[begin - past - 2 :], begin - 1, number)
    resumed = [
        (c.frame.pts, neighbours(part))
        for part in clip_windows(left, 4, past, after)
        for c in part.cues
    ]
    assert resumed == whole
