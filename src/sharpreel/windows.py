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

import numpy as np
import numpy.typing as npt

from sharpreel.ops import Frame as Pixels
from sharpreel.video import Frame

SEGMENT_SECONDS = 10
SEGMENT_FRAMES = 1200  # a bound for high frame rates and broken clocks


@dataclass(frozen=True)
class Cue:
    """One run of the network: which frame, for which segment, and what to do about the state."""

    segment: int
    frame: Frame
    fresh: bool  # forget the state before this frame
    shown: bool  # False for warm-up


class SceneCut:
    """Finds the first frame of each new scene from the frames seen so far.

    The score of FFmpeg's scdet: the mean absolute difference of neighbouring frames, in percent of
    the full range, or how much it differs from the difference before, whichever is less; so a cut
    stands out while steady motion does not.
    """

    def __init__(self, threshold: float = 10.0) -> None:
        self.threshold = threshold
        self._before: npt.NDArray[np.float32] | None = None
        self._difference = 0.0

    def __call__(self, pixels: Pixels) -> bool:
        """Does this frame begin a new scene? The first frame does not."""
        red, green, blue = (pixels[::4, ::4, c] for c in range(3))
        small = red.astype(np.float32)  # ten times as fast as the mean over the last axis
        small += green
        small += blue
        small *= 100.0 / (3 * np.iinfo(pixels.dtype).max)
        before, self._before = self._before, small
        if before is None:
            return False
        difference = float(np.abs(small - before).mean())
        score = min(difference, abs(difference - self._difference))
        self._difference = difference
        return score >= self.threshold


def cue(
    frames: Iterable[Frame],
    time_base: Fraction,
    warm_up: int,
    first_segment: int = 0,
    done_until: int | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    max_frames: int | None = SEGMENT_FRAMES,
    keeps_state: bool = True,
) -> Iterator[Cue]:
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
    find_cut = SceneCut()
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
            yield Cue(segment, frame, fresh=is_cut, shown=False)
            continue
        seconds = 0.0 if begun is None else float((frame.pts - begun) * time_base)
        due = seconds >= segment_seconds and (frame.key or is_cut)
        late = seconds >= 1.5 * segment_seconds or count == max_frames
        if begun is None or due or late:
            segment, begun, count = segment + 1, frame.pts, 0
            if not keeps_state:
                yield Cue(segment, frame, fresh=is_cut, shown=True)
                count += 1
                continue
            # The detector starts anew too: a resumed run has seen no more than this.
            find_cut = SceneCut()
            scene = [*recent, frame]
            cuts = [find_cut(f.pixels) for f in scene]
            start = max((k for k, cut in enumerate(cuts) if cut), default=0)
            for k, warm in enumerate(scene[start:-1]):
                yield Cue(segment, warm, fresh=k == 0, shown=False)
            yield Cue(segment, frame, fresh=start == len(scene) - 1, shown=True)
        else:
            yield Cue(segment, frame, fresh=is_cut, shown=True)
        count += 1
        recent.append(frame)


@dataclass(frozen=True)
class Stretch:
    """Frames that a network makes at once, with the neighbours it may look at.

    `before` and `after` are of the same scene, and fewer than asked for at its ends.
    """

    before: list[Frame]
    cues: list[Cue]
    after: list[Frame]


def stretches(cues: Iterable[Cue], length: int, before: int, after: int) -> Iterator[Stretch]:
    """Cut cues without state (`keeps_state=False`) to stretches of at most `length` shown frames.

    A stretch ends with its segment and with its scene, so what is made of a segment depends on
    its own frames and the neighbours alone.

    length = 3, before = after = 1, a cut before d

    stretch 0   [a b c]          no frame before, and d is another scene
    stretch 1         [d e f] g
    stretch 2             f [g]
    """
    waiting: deque[Cue] = deque()
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
        yield Stretch(list(past), mine, following)
        for one in mine:
            past.append(one.frame)
            waiting.popleft()


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in lr pixels: what the network sees, and what is shown of it.

    Over the first `fade` shown pixels the tile fades in over the one before it.
    """

    start: int
    stop: int
    first: int
    last: int
    fade: int

    @property
    def seen(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def shown(self) -> slice:
        return slice(self.first, self.last)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a frame that goes through a network by itself."""

    rows: Span
    columns: Span

    @property
    def seen(self) -> tuple[slice, slice]:
        return self.rows.seen, self.columns.seen


def smallest_side(overlap: int, multiple_of: int = 1) -> int:
    """The least side of a tile in lr pixels: less would show nothing beyond the overlap."""
    inner = max(8, overlap // 2)
    return _up(2 * _up(overlap, multiple_of) + inner, multiple_of)


def spans(
    length: int, side: int, overlap: int, multiple_of: int = 1, soft: bool = False
) -> list[Span]:
    """Cut an axis to spans of `side` pixels that lie evenly and overlap by 2 * overlap and more.

    length = 16, side = 8, overlap = 2           s seen, S shown

    span 0  S S S S S S s s
    span 1          s s S S S S s s
    span 2                  s s S S S S S S

    Args:
        overlap: Pixels that a span sees beyond what it shows, at the least.
        multiple_of: Spans begin at multiples of this.
        soft: Fade each span in over `overlap` pixels about its border instead of cutting there;
            what it then shows is at least half of `overlap` away from its edge.

    Raises:
        ValueError: `side` is less than `smallest_side`.
    """
    if length <= side:
        return [Span(0, length, 0, length, 0)]
    if side < smallest_side(overlap, multiple_of):
        raise ValueError(
            f"A tile of {side} pixels shows nothing beyond an overlap of {overlap}; "
            f"at least {smallest_side(overlap, multiple_of)} are needed."
        )
    overlap, side = _up(overlap, multiple_of), side // multiple_of * multiple_of
    gaps = -(-(length - side) // (side - 2 * overlap))  # between neighbouring starts
    units = (length - side) // multiple_of
    starts = [k * units // gaps * multiple_of for k in range(gaps + 1)]
    stops = [*(start + side for start in starts[:-1]), length]
    middles = [(stops[k] + starts[k + 1]) // 2 for k in range(gaps)]
    borders = [middle // multiple_of * multiple_of for middle in middles]
    fade = overlap // 2 * 2 if soft else 0
    made = []
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        first = 0 if k == 0 else borders[k - 1] - fade // 2
        last = length if k == gaps else borders[k] + fade // 2
        made.append(Span(start, stop, first, last, fade if k else 0))
    return made


def tiles(
    height: int, width: int, side: int, overlap: int, multiple_of: int = 1, soft: bool = False
) -> list[Tile]:
    """Cut a frame to tiles, row by row; see `spans`. Every tile has one size, but for the last
    of a row or column where the frame's is no multiple of `multiple_of`."""
    rows = spans(height, side, overlap, multiple_of, soft)
    columns = spans(width, side, overlap, multiple_of, soft)
    return [Tile(row, column) for row in rows for column in columns]


def paste(picture: Pixels, made: Pixels, tile: Tile, scale: float) -> None:
    """Put a tile's picture into the frame's, over those of the tiles before it.

    Args:
        picture: The whole frame's, (sH, sW, C); changed in place.
        made: What the network made of the tile, from its first seen pixel on, and of its type.
        scale: Tiles begin where this makes whole pixels of them.
    """
    (y, y0, wy), (x, x0, wx) = (_placed(span, scale) for span in (tile.rows, tile.columns))
    y = slice(y.start, min(y.stop, picture.shape[0]))  # a frame may have been padded
    x = slice(x.start, min(x.stop, picture.shape[1]))
    inside = made[y0 : y0 + y.stop - y.start, x0 : x0 + x.stop - x.start]
    if not (tile.rows.fade or tile.columns.fade):
        picture[y, x] = inside
        return
    weight = wy[: y.stop - y.start, None, None] * wx[None, : x.stop - x.start, None]
    old = picture[y, x].astype(np.float32)
    picture[y, x] = np.rint(old + weight * (inside - old)).astype(picture.dtype)


def _placed(span: Span, scale: float) -> tuple[slice, int, npt.NDArray[np.float32]]:
    """Where a span's picture goes, its first pixel in what the network made, and its weights."""
    first, last = round(span.first * scale), round(span.last * scale)
    weights = np.ones(last - first, np.float32)
    fade = round(span.fade * scale)
    weights[:fade] = (np.arange(fade) + 0.5) / max(fade, 1)
    return slice(first, last), first - round(span.start * scale), weights


def _up(number: int, multiple_of: int) -> int:
    return -(-number // multiple_of) * multiple_of
