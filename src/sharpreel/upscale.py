"""The main path: video -> scheduled frames -> network -> upscaled frames -> video.

    file ──VideoReader──> frames ──frame_cues──> cues ──run_network──> frames ──sink──> segments
           decoding thread ...........................│ network thread .......│ this thread

Each arrow is a generator. `prefetch` runs the part before it in a thread of its own, a few frames
ahead: decoder, network and encoder overlap, and memory depends on the size of a frame, not on the
length of the video. Every finished segment is journalled, so a run that was killed resumes and ends
in the same bytes. The output gets its name after it was verified.

A segment depends only on its own frames and a few frames before it (`ResumePoint`). Therefore any
worker can produce it: this process, a later resumed run, or another machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from sharpreel.engines.base import Engine
from sharpreel.errors import InputError
from sharpreel.media.frame import Frame
from sharpreel.models import DEFAULT_MODEL
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.pipeline.journal import Journal
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.pipes import run_stream
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.pipeline.schedule import SEGMENT_SECONDS
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
    ProgressCallback,
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
    on_progress: ProgressCallback | None = None,
    model: str | Path = DEFAULT_MODEL,
    scale: float | None = None,
    height: int | None = None,
    size: tuple[int, int] | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    choices: Mapping[str, Any] | None = None,
    tile: int | None = None,
    max_memory: int | None = None,
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    start: float | Fraction | None = None,
    end: float | Fraction | None = None,
    allow_audio_transcode: bool = False,
    overwrite: bool = False,
    resume: bool = True,
    skip_existing: bool = False,
    strict: bool = False,
    segment_seconds: float = SEGMENT_SECONDS,
    batch: int = 1,
) -> Result:
    """Upscale a video file or a folder of images, and keep everything else in it.

    Args:
        source: A video file, or a folder of PNG or JPEG images.
        output: The file to write (its suffix names the container), or a folder for images; by
            default `<stem>_<model>_x<scale>.<ext>` next to the input.
        on_progress: Called from this thread after each frame; an exception in it stops the run.
        model: A name listed by `sharpreel models`, or a model file.
        scale: Integer factor (any for tsrcnn); by default the one that `height` or `size` needs,
            else 2.
        height: Height of the output as shown, in pixels. The width follows.
        size: Exact (width, height) of the output as shown, in pixels.
        device: "auto", "cpu" or "cuda".
        engine: "auto", "openvino" or "torch".
        precision: "auto", "float32", "float16" (GPU) or "int8" (CPU).
        choices: Arguments of the network that cannot be inferred from its checkpoint.
        tile: Side of a tile in input pixels; 0 for whole frames, None for what memory allows.
        max_memory: Memory limit for the network, in bytes.
        codec: "h264", "hevc", "av1", "vp9", "ffv1", "prores", ...; by default one that fits.
        crf: Quality of the encoder: lower is better and larger.
        preset: Speed of the encoder.
        pix_fmt: Pixel format of the output, such as "yuv420p10le".
        start, end: Seconds of the input's timeline; only what lies between is upscaled.
        allow_audio_transcode: Re-encode audio that the output's container cannot hold.
        overwrite: Replace an existing output.
        resume: Resume an interrupted run; False starts over.
        skip_existing: Raise NothingToDoError if the output exists.
        strict: Stop at the first frame that does not decode.
        segment_seconds: Approximate length of a segment; a crash loses at most one.
        batch: Segments that go through the network at once, for GPUs.

    Returns:
        The result; `lost` is not 0 when the input is damaged.

    Raises:
        SharpreelError: See `errors.py` for the tree. What is finished is kept: the same call
            resumes.
        NothingToDoError: The input is as large as requested already, or its output exists.
    """
    options = UpscaleOptions(
        model=model,
        scale=scale,
        height=height,
        size=size,
        device=device,
        engine=engine,
        precision=precision,
        choices=choices or {},
        tile=tile,
        max_memory=max_memory,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        start=None if start is None else Fraction(start),
        end=None if end is None else Fraction(end),
        allow_audio_transcode=allow_audio_transcode,
        overwrite=overwrite,
        resume=resume,
        skip_existing=skip_existing,
        strict=strict,
        segment_seconds=segment_seconds,
        batch=batch,
    )
    target = None if output is None else Path(output)
    return run(make_plan(Path(source), target, options), on_progress)


def upscale_frames(
    frames: Iterable[Pixels],
    model: str | Path | Model = DEFAULT_MODEL,
    *,
    scale: float | None = None,
    device: str = "auto",
    engine: str | Engine = "auto",
) -> Iterator[Pixels]:
    """Upscale frames as they arrive: one frame out for each one in, in constant memory.

    Args:
        frames: RGB arrays (H, W, 3), uint8 or uint16, all of one size.
        model: A name listed by `sharpreel models`, a model file, or the result of `load_model`.
        scale: Integer factor, 2 by default.
        device: "auto", "cpu" or "cuda".
        engine: "auto", "openvino" or "torch"; or an engine, which then decides model and device.

    Yields:
        RGB arrays (scale * H, scale * W, 3) of the same type.

    Raises:
        ValueError: A frame is not such an array, or differs from those before it.
    """
    engine = engine_for(model, scale, device, engine)
    stream = (Frame(pixels, index) for index, pixels in enumerate(checked_frames(frames)))
    cues = single_segment(stream, engine)
    return (upscaled.sr.pixels for upscaled in run_network(cues, engine))


class SegmentRunner(Protocol):
    """Computes the segments of one plan that its journal lacks."""

    engine_name: str

    def make(self, work: Journal, on_progress: ProgressCallback) -> Result: ...


def run(
    plan: Plan,
    on_progress: ProgressCallback | None = None,
    make_runner: Callable[[Plan], SegmentRunner] | None = None,
) -> Result:
    """Run a plan; see `upscale_video`.

    Args:
        make_runner: Makes what computes the segments; by default this process does.
    """
    report = on_progress or (lambda progress: None)
    if plan.is_piped:
        return run_stream(plan, report)
    plan = plan.resumed()
    runner = (make_runner or _local_runner)(plan)
    work = Journal(plan.output, plan.journal_settings(runner.engine_name), plan.options.resume)
    try:
        result = runner.make(work, report)
        if result.frames == 0:
            work.remove()
            raise InputError(f"{plan.source}: no frame lies between `start` and `end`.")
        at = Progress("join", result.frames, result.frames, result.fps, len(work.entries) - 1)
        report(at)
        parts = [(work.path(record.name), record) for record in work.entries]
        finished = plan.target.finish(parts, work.folder, lambda share: report(at))
        report(replace(at, event="verify"))
        plan.target.check(finished, work.entries)
        plan.target.place(finished)
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
    """Computes segments in this process, one after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.engine = plan, plan.choose_engine()
        self.engine_name = self.engine.name

    def make(self, work: Journal, on_progress: ProgressCallback) -> Result:
        if work.entries and self.plan.options.tile is None:
            self.engine.tile = work.entries[-1].tile  # as it was, whatever memory is free now
        source = open_remaining(self.plan, work, lookback(self.engine))
        meter = ProgressMeter(self.plan, work, on_progress)
        while self._reach_finished(work, source, meter):
            source = open_remaining(self.plan, work, lookback(self.engine))
        return meter.result(self.plan, work, source.report, self.engine_name)

    def _reach_finished(self, work: Journal, source: SegmentInput, meter: ProgressMeter) -> bool:
        """Compute segments up to the end, or up to one that was finished before: then True."""
        point = source.point
        cues = cues_from(point, prefetch(source.frames), self.plan, self.engine)
        with closing(prefetch(run_network(cues, self.engine))) as upscaled:
            for number, frames in itertools.groupby(upscaled, lambda frame: frame.segment):
                name = self.plan.target.segment_name(number)
                part = work.path(f"part-{name}")
                sink = self.plan.target.sink(part)
                write_segment(frames, sink, source.tail, lambda frame: meter.add(frame.segment))
                record = record_for(point, name, sink.pts, source)
                work.commit(part, replace(record, order=sink.order, tile=self.engine.tile or 0))
                meter.report("segment")
                if len(work.entries) > number + 1:
                    return True
                point = point.after(record, lookback(self.engine))
        return False
