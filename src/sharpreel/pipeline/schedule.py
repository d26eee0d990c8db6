"""Schedules frames: which frame runs for which segment, and what happens to the network's state.

A recurrent network carries a state from frame to frame. To make any segment reproducible on its
own, every segment that starts inside a scene first runs `warm_up` frames whose output is discarded.
Because this happens in every run, interrupted or not, a segment's bytes depend only on its own
frames and a fixed number before it.

    frames     f f f f f f f f|f f f f f f        | segment boundary
    segment 0  s s s s s s s s                    s shown, w warm-up (run, not shown)
    segment 1            w w w s s s s s s        with warm_up = 3
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from sharpreel.media.frame import Frame
from sharpreel.media.scene_cut import SceneCutDetector

SEGMENT_SECONDS = 10
SEGMENT_FRAMES = 1200  # a bound for high frame rates and broken clocks


@dataclass(frozen=True)
class FrameCue:
    """One run of the network: which frame, for which segment, and what to do about the state."""

    segment: int
    frame: Frame
    fresh: bool  # reset the state before this frame
    shown: bool  # False for warm-up


def frame_cues(
    frames: Iterable[Frame],
    time_base: Fraction,
    warm_up: int,
    first_segment: int = 0,
    done_until: int | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    max_frames: int | None = SEGMENT_FRAMES,
    keeps_state: bool = True,
) -> Iterator[FrameCue]:
    """What to run, in order: every frame shown once, in segments of about `segment_seconds`.

    A segment ends at the first key frame or scene cut after its time is over, and at the latest
    after one and a half times its time. That depends only on the frames, so it is the same in
    every run.

    Args:
        frames: In display order.
        warm_up: Frames that run before a segment which does not begin at a cut.
        first_segment: Number of the first segment.
        done_until: Frames up to this pts belong to finished segments: they only warm up.
        max_frames: The most frames of a segment; None: no bound.
        keeps_state: False for networks that look at neighbouring frames and carry no state: no
            frame runs twice, and finished frames are passed on unshown, as neighbours.
    """
    boundaries = _Boundaries(time_base, segment_seconds, max_frames, first_segment)
    schedule = _cue_stateful if keeps_state else _cue_windowed
    return schedule(frames, boundaries, warm_up, done_until)


class _Boundaries:
    """Decides at which frames segments begin.

    Attributes:
        segment: Number of the present segment; one less than the first before any frame.
    """

    def __init__(
        self, time_base: Fraction, seconds: float, max_frames: int | None, first_segment: int
    ) -> None:
        self._time_base, self._seconds, self._max_frames = time_base, seconds, max_frames
        self.segment = first_segment - 1
        self._begun: int | None = None  # pts of the segment's first frame
        self._count = 0

    def begins(self, frame: Frame, is_cut: bool) -> bool:
        """Count a shown frame; True if a new segment begins with it."""
        seconds = 0.0 if self._begun is None else float((frame.pts - self._begun) * self._time_base)
        due = seconds >= self._seconds and (frame.key or is_cut)
        late = seconds >= 1.5 * self._seconds or self._count == self._max_frames
        new = self._begun is None or due or late
        if new:
            self.segment, self._begun, self._count = self.segment + 1, frame.pts, 0
        self._count += 1
        return new


def _cue_stateful(
    frames: Iterable[Frame], boundaries: _Boundaries, warm_up: int, done_until: int | None
) -> Iterator[FrameCue]:
    recent: deque[Frame] = deque(maxlen=warm_up)
    find_cut = SceneCutDetector()
    for frame in frames:
        if done_until is not None and frame.pts <= done_until:
            recent.append(frame)
            continue
        is_cut = find_cut(frame.pixels)
        if not boundaries.begins(frame, is_cut):
            yield FrameCue(boundaries.segment, frame, fresh=is_cut, shown=True)
        else:
            # The detector starts over too: a resumed run has seen no more than these frames.
            find_cut = SceneCutDetector()
            scene = [*recent, frame]
            cuts = [find_cut(f.pixels) for f in scene]
            start = max((k for k, cut in enumerate(cuts) if cut), default=0)
            for k, warm in enumerate(scene[start:-1]):
                yield FrameCue(boundaries.segment, warm, fresh=k == 0, shown=False)
            fresh = start == len(scene) - 1
            yield FrameCue(boundaries.segment, frame, fresh=fresh, shown=True)
        recent.append(frame)


def _cue_windowed(
    frames: Iterable[Frame], boundaries: _Boundaries, warm_up: int, done_until: int | None
) -> Iterator[FrameCue]:
    find_cut = SceneCutDetector()
    for frame in frames:
        is_cut = find_cut(frame.pixels)
        shown = done_until is None or frame.pts > done_until
        if shown:
            boundaries.begins(frame, is_cut)
        yield FrameCue(boundaries.segment, frame, fresh=is_cut, shown=shown)


@dataclass(frozen=True)
class ClipWindow:
    """Frames that a network computes at once, with the neighbours that it may look at.

    `before` and `after` are of the same scene, and fewer than requested at its ends.
    """

    before: list[Frame]
    cues: list[FrameCue]
    after: list[Frame]


def clip_windows(
    cues: Iterable[FrameCue], length: int, before: int, after: int
) -> Iterator[ClipWindow]:
    """Cut cues without state (`keeps_state=False`) to windows of at most `length` shown frames.

    A window ends with its segment and with its scene, so the output of a segment depends only on
    its own frames and their neighbours.

    length = 3, before = after = 1, a cut before d

    window 0   [a b c]          nothing before; d is another scene
    window 1         [d e f] g
    window 2             f [g]
    """
    waiting: deque[FrameCue] = deque()
    source = iter(cues)
    past: deque[Frame] = deque(maxlen=before)
    while True:
        waiting.extend(itertools.islice(source, length + after + 1 - len(waiting)))
        if not waiting:
            return
        first = waiting[0]
        if first.fresh:
            past.clear()
        if not first.shown:
            past.append(waiting.popleft().frame)
            continue
        rest = itertools.islice(waiting, 1, None)
        same = [first, *itertools.takewhile(lambda c: not c.fresh, rest)]
        mine = [c for c in same[:length] if c.segment == first.segment]
        following = [c.frame for c in same[len(mine) : len(mine) + after]]
        yield ClipWindow(list(past), mine, following)
        for one in mine:
            past.append(one.frame)
            waiting.popleft()
