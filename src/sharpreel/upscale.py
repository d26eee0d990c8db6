"""THE MAIN PATH: video -> cues -> network -> pictures -> video.

    file ──VideoReader──> frames ──cue──> cues ──sharpen──> pictures ──encoder──> segments ──> file
          decoding thread ........................│ network thread ......│ this thread

Each arrow is a generator; `ahead` lets the part before it run in a thread of its own, a few frames
ahead, so decoder, network and encoder overlap while memory stays what a few frames need, however
long the film. What is finished is journalled segment by segment, so a run that was killed goes on
and ends in the same bytes; the output gets its name when it has been verified.

A segment depends on its own frames and a few before it (`ResumePoint`), and on nothing else. So
whoever stands at its place can make it: this process, one that goes on later, another machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sharpreel.engines.base import Engine
from sharpreel.errors import InputError
from sharpreel.media.frame import Frame, FrameSink
from sharpreel.media.image_folder import means_folder
from sharpreel.models import DEFAULT_MODEL
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.pipeline import outputs
from sharpreel.pipeline.journal import Journal
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.pipeline.segments import (
    SegmentInput,
    cues_from,
    lookback,
    open_remaining,
    record_for,
    write_segment,
)
from sharpreel.pipeline.stages import (
    Progress,
    ProgressMeter,
    Result,
    checked_frames,
    engine_for,
    run_network,
    single_segment,
)
from sharpreel.system.files import fsync
from sharpreel.system.prefetch import prefetch


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
        options: Fields of `UpscaleOptions`: model, scale, height, size, device, codec, crf, ...

    Returns:
        What was made; `lost` is not 0 when the input was damaged.

    Raises:
        SharpreelError: See `errors.py` for the tree. Whatever was finished is kept, and the same
            call goes on from there.
        errors.NothingToDoError: The input is as large as asked already.
    """
    target = None if output is None else Path(output)
    return run(plan_for(Path(source), target, UpscaleOptions(**options)), on_progress)


def plan_for(source: Path, output: Path | None, options: UpscaleOptions) -> Plan:
    """The plan of one run: of a video, or of a folder of pictures."""
    if source.is_dir() or (output is not None and means_folder(output)):
        return outputs.make_plan(source, output, options)
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
    stream = (Frame(pixels, index) for index, pixels in enumerate(checked_frames(frames)))
    return (picture.sr.pixels for picture in run_network(single_segment(stream, engine), engine))


class SegmentRunner(Protocol):
    """Makes the segments of one plan that its journal lacks."""

    engine_name: str

    def make(self, work: Journal, tell: Callable[[Progress], None]) -> Result: ...


def run(
    plan: Plan,
    on_progress: Callable[[Progress], None] | None = None,
    maker: Callable[[Plan], SegmentRunner] | None = None,
) -> Result:
    """Do what a plan says; see `upscale_video`. `maker`: who makes the segments."""
    tell = on_progress or (lambda progress: None)
    plan = plan.as_begun()
    chosen = (maker or _local_runner)(plan)
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
        fsync(plan.output.parent)
        work.remove()
    finally:
        work.close()
    return result


def _local_runner(plan: Plan) -> SegmentRunner:
    if plan.options.batch > 1:
        from sharpreel.pipeline.batched import BatchedRunner

        return BatchedRunner(plan)
    return LocalRunner(plan)


class LocalRunner:
    """Makes segments in this process, one after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.engine = plan, plan.choose_engine()
        self.engine_name = self.engine.name

    def make(self, work: Journal, tell: Callable[[Progress], None]) -> Result:
        if work.entries and self.plan.options.tile is None:
            self.engine.tile = work.entries[-1].tile  # as it was, whatever memory there is now
        source = open_remaining(self.plan, work, lookback(self.engine))
        meter = ProgressMeter(self.plan, work, tell)
        while self._reach_finished(work, source, meter):
            source = open_remaining(self.plan, work, lookback(self.engine))
        return meter.result(self.plan, work, source.report, self.engine_name)

    def _reach_finished(self, work: Journal, source: SegmentInput, meter: ProgressMeter) -> bool:
        """Make segments up to the end, or up to one that was finished before: then True."""
        place = source.place
        cues = cues_from(place, prefetch(source.frames), self.plan, self.engine)
        with closing(prefetch(run_network(cues, self.engine))) as made:
            for number, pictures in itertools.groupby(made, lambda picture: picture.segment):
                name = self.plan.segment_name(number)
                part = work.path(f"part-{name}")
                sink: FrameSink = self.plan.sink(part)
                write_segment(pictures, sink, source.tail, lambda p: meter.add(p.segment))
                entry = record_for(place, name, sink.pts, source)
                work.commit(part, replace(entry, order=sink.order, tile=self.engine.tile or 0))
                meter.tell("segment")
                if len(work.entries) > number + 1:
                    return True
                place = place.behind(entry, lookback(self.engine))
        return False
