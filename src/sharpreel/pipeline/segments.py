"""Segments of a run: where each begins, what runs before it, and how it is written."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sharpreel.errors import InputChangedError
from sharpreel.media.frame import Frame, FrameSink
from sharpreel.media.reader import ReadReport
from sharpreel.pipeline.journal import Journal, ResumePoint, SegmentRecord, digest
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.schedule import FrameCue, frame_cues
from sharpreel.pipeline.stages import UpscaledFrame


class Context(Protocol):
    """How many frames around a frame an engine wants; `base.Engine` says what each is."""

    @property
    def warm_up(self) -> int: ...
    @property
    def clip_len(self) -> int: ...
    @property
    def past(self) -> int: ...


def write_segment(
    pictures: Iterable[UpscaledFrame],
    sink: FrameSink,
    tail: deque[Frame],
    tell: Callable[[UpscaledFrame], None] = lambda picture: None,
) -> None:
    """Encode the pictures of one segment; `tail` gets the input frames that they show."""
    try:
        for picture in pictures:
            sink.write(picture.sr)
            tail.append(picture.lr)
            tell(picture)
        sink.close()
    except BaseException:
        sink.abandon()
        raise


def lookback(engine: Context) -> int:
    """Finished frames that a run which goes on must see again to make what an uncut one makes."""
    if engine.clip_len:
        return engine.past + 2  # two more, for the scene cuts among them
    return max(engine.warm_up, 1)


@dataclass(frozen=True)
class SegmentInput:
    """The input from a place on.

    Attributes:
        place: What is finished before.
        frames: The last finished frames once more, and all that follow.
        report: What did not decode, so far.
        tail: The last frames that were shown, now the finished ones; who shows more adds them.
    """

    place: ResumePoint
    frames: Iterator[Frame]
    report: ReadReport
    tail: deque[Frame]


def open_at(plan: Plan, place: ResumePoint, length: int) -> SegmentInput:
    """The input from a place on that is known by this many frames before it.

    It is found by seeking and proved by the digest of the finished frames; where the proof fails,
    the input is read from its beginning.

    Raises:
        InputChangedError: That disagrees too.
    """
    if not place.frames:
        frames, report = plan.frames()
        return SegmentInput(place, frames, report, deque(maxlen=length))
    for start, count in ((place.pts[0], len(place.pts)), (None, place.frames)):
        frames, report = plan.frames(start)
        tail = deque(itertools.islice(frames, count), length)
        if tuple(f.pts for f in tail) == place.pts and digest(tail) == place.tail:
            return SegmentInput(place, itertools.chain(list(tail), frames), report, tail)
        _close(frames)
    raise InputChangedError(f"{plan.source}: the input decodes to other frames than before.")


def open_remaining(plan: Plan, work: Journal, length: int) -> SegmentInput:
    """The input behind what is journalled; where it decodes otherwise, all is made anew."""
    try:
        return open_at(plan, work.place(length), length)
    except InputChangedError:
        work.forget("the input no longer decodes to the same frames")
        return open_at(plan, ResumePoint(), length)


def cues_from(
    place: ResumePoint, frames: Iterable[Frame], plan: Plan, engine: Context
) -> Iterator[FrameCue]:
    """What to run from a place on; `frames` begin with the finished ones by which it is known."""
    return frame_cues(
        frames,
        plan.info.time_base,
        engine.warm_up,
        place.segment,
        place.done_until,
        plan.options.segment_seconds,
        keeps_state=not engine.clip_len,
    )


def remaining_segments(
    plan: Plan, source: SegmentInput, engine: Context, finished: Container[str]
) -> Iterator[tuple[ResumePoint, SegmentRecord]]:
    """The segments that are still to be made, where each begins and all but what its encoder tells.

    The input is decoded for it, and no network is run: who makes one decodes it again.

    Args:
        source: What `open_remaining` gave.
        finished: What segments made out of order are `after`.
    """
    place = source.place
    shown = (one for one in cues_from(place, source.frames, plan, engine) if one.shown)
    for number, group in itertools.groupby(shown, lambda one: one.segment):
        pts = []
        for one in group:
            pts.append(one.frame.pts)
            source.tail.append(one.frame)
        entry = record_for(place, plan.segment_name(number), pts, source)
        if place.tail not in finished:
            yield place, entry
        place = place.behind(entry, lookback(engine))


def record_for(
    place: ResumePoint, name: str, pts: list[int], source: SegmentInput
) -> SegmentRecord:
    """What the journal says of the segment at a place, but for what its encoder tells."""
    before = place.done_until
    return SegmentRecord(
        name=name,
        size=0,
        pts=pts,
        order=[],
        tail=digest(source.tail),
        lost=sum(
            at <= pts[-1] and (before is None or at > before) for at, _ in source.report.errors
        ),
        last_duration=source.tail[-1].duration,
        after=place.tail,
    )


def _close(frames: Iterator[Frame]) -> None:
    close = getattr(frames, "close", None)
    if close is not None:
        close()
