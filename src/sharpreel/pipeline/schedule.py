"""Cuts: a stream of frames in time, to segments and scenes, and a frame in space, to tiles.

A recurrent network carries a state from frame to frame. Where a segment begins inside a scene the
state is built anew from the `warm_up` frames before it, in every run, interrupted or not; that is
why a resumed run, or one spread over machines, gives the same bytes as an uncut one.

    frames     f f f f f f f f|f f f f f f        | segment border
    segment 0  s s s s s s s s                    s shown, w warm-up (run, not shown)
    segment 1            w w w s s s s s s        with warm_up = 3

A frame that does not fit into memory goes through the network in tiles that overlap. What a tile
shows ends where its neighbour's begins, so far inside that neither sees the other's edge; where a
network sees too far for that, one fades into the other.
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
    fresh: bool  # forget the state before this frame
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

    A segment ends at the first key frame or scene cut after its time is over, and at half as much
    again at the latest. What is decided depends only on the frames, so it is the same each time.

    Args:
        frames: In display order.
        warm_up: Frames that are run before a segment which does not begin at a cut.
        first_segment: Number of the first segment made.
        done_until: Frames up to this pts belong to segments made before: they only warm up.
        max_frames: A segment has no more; None: no bound.
        keeps_state: False for networks that look at neighbouring frames and remember nothing: no
            frame is run again, and frames done before are passed on unshown, as neighbours.
    """
    recent: deque[Frame] = deque(maxlen=warm_up)
    find_cut = SceneCutDetector()
    segment = first_segment - 1
    begun: int | None = None
    count = 0
    for frame in frames:
        done = done_until is not None and frame.pts <= done_until
        if done and keeps_state:
            recent.append(frame)
            continue
        is_cut = find_cut(frame.pixels)
        if done:
            yield FrameCue(segment, frame, fresh=is_cut, shown=False)
            continue
        seconds = 0.0 if begun is None else float((frame.pts - begun) * time_base)
        due = seconds >= segment_seconds and (frame.key or is_cut)
        late = seconds >= 1.5 * segment_seconds or count == max_frames
        if begun is None or due or late:
            segment, begun, count = segment + 1, frame.pts, 0
            if not keeps_state:
                yield FrameCue(segment, frame, fresh=is_cut, shown=True)
                count += 1
                continue
            # The detector starts anew too: a resumed run has seen no more than this.
            find_cut = SceneCutDetector()
            scene = [*recent, frame]
            cuts = [find_cut(f.pixels) for f in scene]
            start = max((k for k, cut in enumerate(cuts) if cut), default=0)
            for k, warm in enumerate(scene[start:-1]):
                yield FrameCue(segment, warm, fresh=k == 0, shown=False)
            yield FrameCue(segment, frame, fresh=start == len(scene) - 1, shown=True)
        else:
            yield FrameCue(segment, frame, fresh=is_cut, shown=True)
        count += 1
        recent.append(frame)


@dataclass(frozen=True)
class ClipWindow:
    """Frames that a network makes at once, with the neighbours it may look at.

    `before` and `after` are of the same scene, and fewer than asked for at its ends.
    """

    before: list[Frame]
    cues: list[FrameCue]
    after: list[Frame]


def clip_windows(
    cues: Iterable[FrameCue], length: int, before: int, after: int
) -> Iterator[ClipWindow]:
    """Cut cues without state (`keeps_state=False`) to stretches of at most `length` shown frames.

    A stretch ends with its segment and with its scene, so what is made of a segment depends on
    its own frames and the neighbours alone.

    length = 3, before = after = 1, a cut before d

    stretch 0   [a b c]          no frame before, and d is another scene
    stretch 1         [d e f] g
    stretch 2             f [g]
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
