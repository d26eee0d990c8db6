"""Segments of a run: where each begins, what runs before it, and how it is written."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator
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
    """The frames around a frame that an engine needs; see `Engine` for each."""

    @property
    def warm_up(self) -> int: ...
    @property
    def clip_len(self) -> int: ...
    @property
    def past(self) -> int: ...


def write_segment(
    frames: Iterable[UpscaledFrame],
    sink: FrameSink,
    tail: deque[Frame],
    on_frame: Callable[[UpscaledFrame], None] = lambda frame: None,
) -> None:
    """Encode the frames of one segment; `tail` collects the input frames that they show."""
    try:
        for frame in frames:
            sink.write(frame.sr)
            tail.append(frame.lr)
            on_frame(frame)
        sink.close()
    except BaseException:
        sink.abandon()
        raise


def lookback(engine: Context) -> int:
    """Number of finished frames that a resumed run must read again to reproduce an uncut run."""
    if engine.clip_len:
        return engine.past + 2  # two more, for the scene cuts among them
    return max(engine.warm_up, 1)


@dataclass(frozen=True)
class SegmentInput:
    """The input from a resume point on.

    Attributes:
        point: What is finished before.
        frames: The last finished frames again, and all that follow.
        report: What did not decode, so far.
        tail: The last frames of the output so far; whoever writes more appends them.
    """

    point: ResumePoint
    frames: Iterator[Frame]
    report: ReadReport
    tail: deque[Frame]


def open_at(plan: Plan, point: ResumePoint, length: int) -> SegmentInput:
    """The input from a resume point on that is identified by `length` frames before it.

    It is found by seeking and confirmed by the digest of the finished frames. Where that fails,
    the input is read from its beginning.

    Raises:
        InputChangedError: The frames differ that way too.
    """
    if not point.frames:
        frames, report = plan.frames()
        return SegmentInput(point, frames, report, deque(maxlen=length))
    for start, count in ((point.pts[0], len(point.pts)), (None, point.frames)):
        frames, report = plan.frames(start)
        tail = deque(itertools.islice(frames, count), length)
        if tuple(f.pts for f in tail) == point.pts and digest(tail) == point.tail:
            return SegmentInput(point, _again(list(tail), frames), report, tail)
        frames.close()
    raise InputChangedError(f"{plan.source}: the input decodes to other frames than before.")


def _again(finished: list[Frame], frames: Generator[Frame]) -> Generator[Frame]:
    """The finished frames, then the rest."""
    yield from finished
    yield from frames


def open_remaining(plan: Plan, work: Journal, length: int) -> SegmentInput:
    """The input after the last journalled segment; if it decodes differently now, all of it."""
    try:
        return open_at(plan, work.resume_point(length), length)
    except InputChangedError:
        work.forget("the input no longer decodes to the same frames")
        return open_at(plan, ResumePoint(), length)


def cues_from(
    point: ResumePoint, frames: Iterable[Frame], plan: Plan, engine: Context
) -> Iterator[FrameCue]:
    """What to run from a resume point on; `frames` begin with the finished ones before it."""
    return frame_cues(
        frames,
        plan.info.time_base,
        engine.warm_up,
        point.segment,
        point.done_until,
        plan.options.segment_seconds,
        keeps_state=not engine.clip_len,
    )


def remaining_segments(
    plan: Plan, source: SegmentInput, engine: Context, finished: Container[str]
) -> Iterator[tuple[ResumePoint, SegmentRecord]]:
    """The segments still to do: resume point and record, without what only the encoder knows.

    This decodes the input and runs no network: whoever computes a segment decodes it again.

    Args:
        source: From `open_remaining`.
        finished: What segments that were finished out of order are `after`.
    """
    point = source.point
    shown = (one for one in cues_from(point, source.frames, plan, engine) if one.shown)
    for number, group in itertools.groupby(shown, lambda one: one.segment):
        pts = []
        for one in group:
            pts.append(one.frame.pts)
            source.tail.append(one.frame)
        record = record_for(point, plan.target.segment_name(number), pts, source)
        if point.tail not in finished:
            yield point, record
        point = point.after(record, lookback(engine))


def record_for(
    point: ResumePoint, name: str, pts: list[int], source: SegmentInput
) -> SegmentRecord:
    """The journal's record of the segment at a resume point, without the encoder's part."""
    before = point.done_until
    lost = sum(at <= pts[-1] and (before is None or at > before) for at, _ in source.report.errors)
    return SegmentRecord(
        name=name,
        size=0,
        pts=pts,
        order=[],
        tail=digest(source.tail),
        lost=lost,
        last_duration=source.tail[-1].duration,
        after=point.tail,
    )
