"""THE MAIN PATH: video -> cues -> network -> pictures -> video.

    file ──VideoReader──> frames ──cue──> cues ──sharpen──> pictures ──encoder──> segments ──> file
          decoding thread ........................│ network thread ......│ this thread

Each arrow is a generator; `ahead` lets the part before it run in a thread of its own, a few frames
ahead, so decoder, network and encoder overlap while memory stays what a few frames need, however
long the film. What is finished is journalled segment by segment, so a run that was killed goes on
and ends in the same bytes; the output gets its name when it has been verified.

A segment depends on its own frames and a few before it (`journal.Place`), and on nothing else. So
whoever stands at its place can make it: this process, one that goes on later, another machine.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from sharpreel import journal, ops, pictures, video
from sharpreel.engine import Engine, choose_engine
from sharpreel.errors import InputError
from sharpreel.journal import Entry, Journal, Place
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

    `event` is "start", "progress", "segment" (one more is on the disk), "join", "verify" or, on a
    cluster, "again" (`note` says which segment is made once more, and why). `nodes` are a cluster's
    machines and the frames a second of each.
    """

    event: str
    frames: int
    total: int | None
    fps: float
    segment: int
    resumed_frames: int = 0
    note: str = ""
    nodes: Mapping[str, float] = field(default_factory=dict)

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
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
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
            yield from map(picture_of, part.cues, made)
        return
    for one in cues:
        if one.fresh:
            engine.reset()
        pixels = engine.run(one.frame.pixels)
        if one.shown:
            yield picture_of(one, pixels)


def picture_of(one: Cue, pixels: Pixels) -> Picture:
    """The picture that the network made at a cue."""
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


class Context(Protocol):
    """How many frames around a frame an engine wants; `engine.Engine` says what each is."""

    @property
    def warm_up(self) -> int: ...
    @property
    def clip_len(self) -> int: ...
    @property
    def past(self) -> int: ...


class Maker(Protocol):
    """Makes the segments of one plan that its journal lacks: `Here`, or `cluster.Film`."""

    engine_name: str

    def make(self, work: Journal, tell: Callable[[Progress], None]) -> Result: ...


def run(
    plan: Plan,
    on_progress: Callable[[Progress], None] | None = None,
    maker: Callable[[Plan], Maker] | None = None,
) -> Result:
    """Do what a plan says; see `upscale_video`. `maker`: who makes the segments, else `Here`."""
    tell = on_progress or (lambda progress: None)
    plan = plan.as_begun()
    chosen = (maker or _here)(plan)
    work = Journal(plan.output, plan.journal_settings(chosen.engine_name), plan.options.resume)
    try:
        result = chosen.make(work, tell)
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


def _here(plan: Plan) -> Maker:
    if plan.options.batch > 1:
        from sharpreel.abreast import Abreast

        return Abreast(plan)
    return Here(plan)


class Here:
    """Makes segments in this process, one after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.engine = plan, plan.choose_engine()
        self.engine_name = self.engine.name

    def make(self, work: Journal, tell: Callable[[Progress], None]) -> Result:
        if work.entries and self.plan.options.tile is None:
            self.engine.tile = work.entries[-1].tile  # as it was, whatever memory there is now
        source = frames_left(self.plan, work, lookback(self.engine))
        meter = Meter(self.plan, work, tell)
        while self._reach_finished(work, source, meter):
            source = frames_left(self.plan, work, lookback(self.engine))
        return meter.result(self.plan, work, source.report, self.engine_name)

    def _reach_finished(self, work: Journal, source: Source, meter: Meter) -> bool:
        """Make segments up to the end, or up to one that was finished before: then True."""
        place = source.place
        cues = cues_behind(place, ahead(source.frames), self.plan, self.engine)
        with closing(ahead(sharpen(cues, self.engine))) as made:
            for number, pictures in itertools.groupby(made, lambda picture: picture.segment):
                name = self.plan.segment_name(number)
                part = work.path(f"part-{name}")
                sink: Sink = self.plan.sink(part)
                write_segment(pictures, sink, source.tail, lambda p: meter.add(p.segment))
                entry = entry_behind(place, name, sink.pts, source)
                work.commit(part, replace(entry, order=sink.order, tile=self.engine.tile or 0))
                meter.tell("segment")
                if len(work.entries) > number + 1:
                    return True
                place = place.behind(entry, lookback(self.engine))
        return False


class Meter:
    """Counts the frames of a run and tells of them."""

    def __init__(self, plan: Plan, work: Journal, tell: Callable[[Progress], None]) -> None:
        self._on_progress, self._began = tell, time.perf_counter()
        done = work.frames
        self.progress = Progress("start", done, plan.num_frames, 0.0, len(work.entries), done)
        self.tell("start", work.restarted)

    def tell(self, event: str, note: str = "") -> None:
        self._on_progress(replace(self.progress, event=event, note=note))

    def add(self, segment: int, frames: int = 1, nodes: Mapping[str, float] | None = None) -> None:
        before = self.progress
        count = before.frames + frames
        fps = (count - before.resumed_frames) / (time.perf_counter() - self._began)
        self.progress = replace(
            before, frames=count, fps=fps, segment=segment, nodes=nodes or before.nodes
        )
        self.tell("progress")

    def result(self, plan: Plan, work: Journal, report: video.ReadReport, engine: str) -> Result:
        end = work.entries[-1].pts[-1] if work.entries else None
        behind = sum(end is None or at > end for at, _ in report.errors)
        return Result(
            output=plan.output,
            frames=self.progress.frames,
            lost=sum(e.lost for e in work.entries) + behind + report.missing,
            seconds=time.perf_counter() - self._began,
            fps=self.progress.fps,
            engine=engine,
            resumed_frames=self.progress.resumed_frames,
            notes=afterwards(report),
        )


def write_segment(
    pictures: Iterable[Picture],
    sink: Sink,
    tail: deque[Frame],
    tell: Callable[[Picture], None] = lambda picture: None,
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
class Source:
    """The input from a place on.

    Attributes:
        place: What is finished before.
        frames: The last finished frames once more, and all that follow.
        report: What did not decode, so far.
        tail: The last frames that were shown, now the finished ones; who shows more adds them.
    """

    place: Place
    frames: Iterator[Frame]
    report: video.ReadReport
    tail: deque[Frame]


class OtherFrames(Exception):
    """The input does not decode to the frames that were there before."""


def frames_behind(plan: Plan, place: Place, length: int) -> Source:
    """The input from a place on that is known by this many frames before it.

    It is found by seeking and proved by the digest of the finished frames; where the proof fails,
    the input is read from its beginning.

    Raises:
        OtherFrames: That disagrees too.
    """
    if not place.frames:
        frames, report = plan.frames()
        return Source(place, frames, report, deque(maxlen=length))
    for start, count in ((place.pts[0], len(place.pts)), (None, place.frames)):
        frames, report = plan.frames(start)
        tail = deque(itertools.islice(frames, count), length)
        if tuple(f.pts for f in tail) == place.pts and journal.digest(tail) == place.tail:
            return Source(place, itertools.chain(list(tail), frames), report, tail)
        _close(frames)
    raise OtherFrames


def frames_left(plan: Plan, work: Journal, length: int) -> Source:
    """The input behind what is journalled; where it decodes otherwise, all is made anew."""
    try:
        return frames_behind(plan, work.place(length), length)
    except OtherFrames:
        work.forget("the input no longer decodes to the same frames")
        return frames_behind(plan, Place(), length)


def cues_behind(
    place: Place, frames: Iterable[Frame], plan: Plan, engine: Context
) -> Iterator[Cue]:
    """What to run from a place on; `frames` begin with the finished ones by which it is known."""
    return cue(
        frames,
        plan.info.time_base,
        engine.warm_up,
        place.segment,
        place.done_until,
        plan.options.segment_seconds,
        keeps_state=not engine.clip_len,
    )


def segments_behind(
    plan: Plan, source: Source, engine: Context, finished: Container[str]
) -> Iterator[tuple[Place, Entry]]:
    """The segments that are still to be made, where each begins and all but what its encoder tells.

    The input is decoded for it, and no network is run: who makes one decodes it again.

    Args:
        source: What `frames_left` gave.
        finished: What segments made out of order are `after`.
    """
    place = source.place
    shown = (one for one in cues_behind(place, source.frames, plan, engine) if one.shown)
    for number, group in itertools.groupby(shown, lambda one: one.segment):
        pts = []
        for one in group:
            pts.append(one.frame.pts)
            source.tail.append(one.frame)
        entry = entry_behind(place, plan.segment_name(number), pts, source)
        if place.tail not in finished:
            yield place, entry
        place = place.behind(entry, lookback(engine))


def entry_behind(place: Place, name: str, pts: list[int], source: Source) -> Entry:
    """What the journal says of the segment at a place, but for what its encoder tells."""
    before = place.done_until
    return Entry(
        name=name,
        size=0,
        pts=pts,
        order=[],
        tail=journal.digest(source.tail),
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


def afterwards(report: video.ReadReport) -> list[str]:
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
