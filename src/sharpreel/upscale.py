"""THE MAIN PATH: video -> cues -> network -> pictures -> video.

    file ──VideoReader──> frames ──cue──> cues ──sharpen──> pictures ──encoder──> segments ──> file
          decoding thread ........................│ network thread ......│ this thread

Each arrow is a generator; `ahead` lets the part before it run in a thread of its own, a few frames
ahead, so decoder, network and encoder overlap while memory stays what a few frames need, however
long the film. What is finished is journalled segment by segment, so a run that was killed goes on
and ends in the same bytes; the output gets its name when it has been verified.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from sharpreel import journal, ops, pictures, video
from sharpreel.engine import Engine, choose_engine
from sharpreel.errors import InputError
from sharpreel.journal import Entry, Journal
from sharpreel.models import DEFAULT_MODEL
from sharpreel.ops import Frame as Pixels
from sharpreel.plan import Options, Plan, make_plan
from sharpreel.video import Frame
from sharpreel.weights import Model, load_model
from sharpreel.windows import Cue, cue, stretches

T = TypeVar("T")
AHEAD = 4  # frames that wait between two threads


@dataclass(frozen=True)
class Picture:
    """An enlarged frame on its way to the encoder, with the input frame it came from."""

    segment: int
    sr: Frame
    lr: Frame


@dataclass(frozen=True)
class Progress:
    """How far a run is; handed to the progress callback.

    `event` is "start", "progress", "segment" (one more is on the disk), "join" or "verify".
    """

    event: str
    frames: int
    total: int | None
    fps: float
    segment: int
    resumed_frames: int = 0
    note: str = ""

    @property
    def eta_seconds(self) -> float | None:
        if self.total is None or self.fps <= 0:
            return None
        return max(self.total - self.frames, 0) / self.fps


@dataclass(frozen=True)
class Result:
    """What a run made.

    `lost` frames of the input did not decode and are not in the output; `resumed_frames` came from
    an earlier run; `fps` counts the frames of this one.
    """

    output: Path
    frames: int
    lost: int
    seconds: float
    fps: float
    engine: str
    resumed_frames: int = 0
    notes: list[str] = field(default_factory=list)


class Sink(Protocol):
    """Takes the pictures of one segment; `video.VideoEncoder` and `pictures.PngWriter` are ones."""

    pts: list[int]
    order: list[int]

    def write(self, frame: Frame) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


def upscale_video(
    source: str | Path,
    output: str | Path | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Result:
    """Upscale a whole video file, or a folder of pictures, with everything else in it kept.

    Args:
        source: A video file, or a folder of PNG or JPEG pictures.
        output: The file to make (its suffix names the container), or a folder for pictures; by
            default `<stem>_<model>_x<scale>.<ext>` beside the input.
        on_progress: Called now and then from this thread; what it raises stops the run.
        options: Fields of `plan.Options`: model, scale, height, size, device, codec, crf, ...

    Returns:
        What was made; `lost` is not 0 when the input was damaged.

    Raises:
        SharpreelError: See `errors.py` for the tree. Whatever was finished is kept, and the same
            call goes on from there.
        plan.NothingToDo: The input is as large as asked already.
    """
    target = None if output is None else Path(output)
    return run(plan_for(Path(source), target, Options(**options)), on_progress)


def plan_for(source: Path, output: Path | None, options: Options) -> Plan:
    """The plan of one run: of a video, or of a folder of pictures."""
    if source.is_dir() or (output is not None and pictures.means_folder(output)):
        return pictures.make_plan(source, output, options)
    return make_plan(source, output, options)


def upscale_frames(
    frames: Iterable[Pixels],
    model: str | Path | Model = DEFAULT_MODEL,
    *,
    scale: float | None = None,
    device: str = "auto",
    engine: str | Engine = "auto",
) -> Iterator[Pixels]:
    """Upscale frames as they come: one picture out for each one in, in constant memory.

    Args:
        frames: RGB arrays (H, W, 3), uint8 or uint16, all of one size.
        model: A name of `sharpreel models`, a model file, or what `load_model` returned.
        scale: Factor, 2 by default.
        engine: "auto", "openvino" or "torch"; or an engine, which then says model and device.

    Yields:
        RGB arrays (scale * H, scale * W, 3) of the same type.

    Raises:
        ValueError: A frame is not such an array, or not like those before it.
    """
    engine = engine_for(model, scale, device, engine)
    stream = (Frame(pixels, index) for index, pixels in enumerate(checked(frames)))
    return (picture.sr.pixels for picture in sharpen(endless(stream, engine), engine))


def engine_for(
    model: str | Path | Model, scale: float | None, device: str, engine: str | Engine
) -> Engine:
    """The engine that the arguments of `upscale_frames` mean."""
    if not isinstance(engine, str):
        return engine
    loaded = model if isinstance(model, Model) else load_model(model, scale)
    return choose_engine(loaded, device, engine)


def endless(
    frames: Iterable[Frame], engine: Engine, time_base: Fraction = Fraction(0)
) -> Iterator[Cue]:
    """Cues of one endless segment: nothing is ever redone, only scene cuts reset the state."""
    return cue(
        frames, time_base, 0, max_frames=None, segment_seconds=float("inf"),
        keeps_state=not engine.clip_len,
    )  # fmt: skip


def checked(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    """The same frames, while they are what an engine takes.

    Raises:
        ValueError: One is not.
    """
    first: tuple[tuple[int, ...], np.dtype[Any]] | None = None
    for index, pixels in enumerate(frames):
        kind = getattr(pixels, "dtype", None)
        if not isinstance(pixels, np.ndarray) or kind not in (np.uint8, np.uint16):
            raise ValueError(
                f"Frame {index} must be an array of uint8 or uint16, got "
                f"{kind or type(pixels).__name__}. Multiply floats in [0, 1] by 255 and round."
            )
        if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape) < 2:
            raise ValueError(
                f"Frame {index} must be RGB of shape (H, W, 3), got {pixels.shape}. "
                "Repeat a grey frame three times: np.repeat(frame[..., None], 3, axis=2)."
            )
        first = first or (pixels.shape, pixels.dtype)
        if (pixels.shape, pixels.dtype) != first:
            raise ValueError(
                f"Frame {index} is {pixels.dtype} {pixels.shape}, those before are {first[1]} "
                f"{first[0]}. Frames of one call have one size and type."
            )
        yield pixels


def sharpen(cues: Iterable[Cue], engine: Engine) -> Iterator[Picture]:
    """Run the network on each cue and yield the pictures that are to be shown."""
    if engine.clip_len:
        for part in stretches(cues, engine.clip_len, engine.past, engine.future):
            frames = [*part.before, *(c.frame for c in part.cues), *part.after]
            made = engine.run_clip([f.pixels for f in frames], len(part.before), len(part.cues))
            yield from map(_picture, part.cues, made)
        return
    for one in cues:
        if one.fresh:
            engine.reset()
        pixels = engine.run(one.frame.pixels)
        if one.shown:
            yield _picture(one, pixels)


def _picture(one: Cue, pixels: Pixels) -> Picture:
    lr, alpha = one.frame, one.frame.alpha
    if alpha is not None:
        alpha = ops.resize(alpha, *pixels.shape[:2])
    return Picture(one.segment, replace(lr, pixels=pixels, alpha=alpha), lr)


def ahead(items: Iterable[T], size: int = AHEAD) -> Generator[T]:
    """The same items, produced in a thread of their own, at most `size` before they are wanted.

    An exception in the thread is raised here; closing this generator stops the thread.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(size)
    stop = threading.Event()

    def offer(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not offer("item", item):
                    return
            offer("end", None)
        except BaseException as e:
            offer("error", e)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()


def run(plan: Plan, on_progress: Callable[[Progress], None] | None = None) -> Result:
    """Do what a plan says; see `upscale_video`."""
    tell = on_progress or (lambda progress: None)
    engine = plan.choose_engine()
    work = Journal(plan.output, plan.journal_settings(engine.name), plan.options.resume)
    try:
        if work.entries and plan.options.tile is None:
            engine.tile = work.entries[-1].tile  # go on as it was, whatever memory there is now
        result = _make_segments(plan, work, engine, tell)
        if result.frames == 0:
            work.remove()
            raise InputError(f"{plan.source}: no frame lies between --start and --end.")
        at = Progress("join", result.frames, result.frames, result.fps, len(work.entries) - 1)
        tell(at)
        finished = plan.finish(work, lambda share: tell(at))
        tell(replace(at, event="verify"))
        plan.check(finished, work)
        plan.place(finished)
        journal.sync(plan.output.parent)
        work.remove()
    finally:
        work.close()
    return result


def _make_segments(
    plan: Plan, work: Journal, engine: Engine, tell: Callable[[Progress], None]
) -> Result:
    """Make and journal every segment that an earlier run has not."""
    frames, report, tail = _frames_left(plan, work, _lookback(engine))
    entries = work.entries
    done_until = entries[-1].pts[-1] if entries else None
    resumed = sum(len(e.pts) for e in entries)
    lost_before = sum(e.lost for e in entries)
    progress = Progress("start", resumed, plan.num_frames, 0.0, len(entries), resumed)
    tell(replace(progress, note=work.restarted))
    cues = cue(
        ahead(frames),
        plan.info.time_base,
        engine.warm_up,
        len(entries),
        done_until,
        plan.options.segment_seconds,
        keeps_state=not engine.clip_len,
    )
    began = time.perf_counter()
    segment: _OpenSegment | None = None
    with closing(ahead(sharpen(cues, engine))) as made:
        try:
            for picture in made:
                if segment is None or segment.number != picture.segment:
                    if segment is not None:
                        segment.commit(report)
                        tell(replace(progress, event="segment"))
                    segment = _OpenSegment(plan, work, picture.segment, tail, engine)
                segment.write(picture)
                count = progress.frames + 1
                fps = (count - resumed) / (time.perf_counter() - began)
                progress = replace(
                    progress,
                    event="progress",
                    frames=count,
                    fps=fps,
                    segment=picture.segment,
                )
                tell(progress)
            if segment is not None:
                segment.commit(report)
                tell(replace(progress, event="segment"))
        except BaseException:
            if segment is not None:
                segment.abandon()
            raise
    new = [e for e in report.errors if done_until is None or e[0] > done_until]
    return Result(
        output=plan.output,
        frames=progress.frames,
        lost=lost_before + len(new) + report.missing,
        seconds=time.perf_counter() - began,
        fps=progress.fps,
        engine=engine.name,
        resumed_frames=resumed,
        notes=_afterwards(report),
    )


class _OpenSegment:
    """The segment that is being encoded, until it is in the journal.

    Args:
        tail: The last input frames that were shown, of this segment and those before it.
    """

    def __init__(
        self, plan: Plan, work: Journal, number: int, tail: deque[Frame], engine: Engine
    ) -> None:
        self.number, self._engine = number, engine
        self._work, self._name = work, plan.segment_name(number)
        self._part = work.path(f"part-{self._name}")
        self._sink: Sink = plan.sink(self._part)
        self._tail = tail

    def write(self, picture: Picture) -> None:
        self._sink.write(picture.sr)
        self._tail.append(picture.lr)

    def commit(self, report: video.ReadReport) -> None:
        self._sink.close()
        pts = self._sink.pts
        before = self._work.entries[-1].pts[-1] if self._work.entries else None
        entry = Entry(
            name=self._name,
            size=0,
            pts=pts,
            order=self._sink.order,
            tail=journal.digest(self._tail),
            lost=sum(at <= pts[-1] and (before is None or at > before) for at, _ in report.errors),
            last_duration=self._tail[-1].duration,
            tile=self._engine.tile or 0,
        )
        self._work.commit(self._part, entry)

    def abandon(self) -> None:
        self._sink.abandon()


def _lookback(engine: Engine) -> int:
    """Finished frames that a run which goes on must see again to make what an uncut one makes."""
    if engine.clip_len:
        return engine.past + 2  # two more, for the scene cuts among them
    return max(engine.warm_up, 1)


def _frames_left(
    plan: Plan, work: Journal, length: int
) -> tuple[Iterator[Frame], video.ReadReport, deque[Frame]]:
    """The frames that an earlier run did not finish, after the last ones it did, and those alone.

    The place is found by seeking and proved by the digest of the last finished frames; where the
    proof fails, the input is read from its beginning; where that disagrees too, all is made anew.
    """
    if not work.entries:
        return (*plan.frames(), deque(maxlen=length))
    last = work.entries[-1]
    known = [pts for entry in work.entries for pts in entry.pts]
    place = known[-length:]
    frames, report = plan.frames(place[0])
    seen = list(itertools.islice(frames, len(place)))
    if [f.pts for f in seen] == place and journal.digest(seen) == last.tail:
        return itertools.chain(seen, frames), report, deque(seen, length)
    _close(frames)
    frames, report = plan.frames()
    recent: deque[Frame] = deque(maxlen=length)
    for pts in known:
        frame = next(frames, None)
        if frame is None or frame.pts != pts:
            break
        recent.append(frame)
    if [f.pts for f in recent] == place and journal.digest(recent) == last.tail:
        return itertools.chain(list(recent), frames), report, recent
    _close(frames)
    work.forget("the input no longer decodes to the same frames")
    return (*plan.frames(), deque(maxlen=length))


def _close(frames: Iterator[Frame]) -> None:
    close = getattr(frames, "close", None)
    if close is not None:
        close()


def _afterwards(report: video.ReadReport) -> list[str]:
    """What the input turned out to be like, in words."""
    notes = [f"{reason} ({count} times)" for reason, count in Counter(
        reason for _, reason in report.errors
    ).items()]  # fmt: skip
    if report.missing:
        notes.append(f"the file ends {report.missing} frames before its index does")
    if report.damaged:
        notes.append(f"{report.damaged} frames are damaged but were decoded")
    if report.retimed:
        notes.append(
            f"{report.retimed} frames had no later timestamp of their own and were given one"
        )
    return notes
