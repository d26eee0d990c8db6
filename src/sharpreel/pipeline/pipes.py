"""Runs that read or write a pipe: frames leave in the order they arrive, and nothing is resumed.

    y4m on stdin ──┐                          ┌──> y4m on stdout
                   ├──> network, one segment ─┤
    a video file ──┘                          └──> a video file

With `UpscaleOptions.live` the newest frame is upscaled and late ones are dropped; y4m, which has no
timestamps, then repeats the frame before. A file is read at its own frame rate, as a camera's
frames would arrive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction

from sharpreel.engines.base import Engine
from sharpreel.errors import InputError, UsageError
from sharpreel.media.frame import Frame, FrameSink
from sharpreel.pipeline.inputs import PIPE
from sharpreel.pipeline.journal import SegmentRecord
from sharpreel.pipeline.live import validate_live
from sharpreel.pipeline.outputs import work_folder_of_pipe
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.stages import (
    Progress,
    Result,
    UpscaledFrame,
    input_notes,
    run_network,
    single_segment,
)
from sharpreel.system.prefetch import LatestOnly, prefetch


def run_stream(plan: Plan, on_progress: Callable[[Progress], None]) -> Result:
    """Upscale a plan that reads or writes a pipe.

    Raises:
        UsageError: The options are for runs from file to file.
    """
    if plan.options.batch > 1:
        raise UsageError("batch must be 1 for a pipe: its segments come one after the other.")
    engine = plan.choose_engine()
    if plan.options.live:
        validate_live(engine)
    frames, report = plan.frames()
    began, count = time.perf_counter(), 0
    with work_folder_of_pipe(plan.target) as folder:
        part = folder / plan.target.segment_name(0)
        sink: FrameSink = plan.target.sink(part)
        for upscaled in _upscaled(plan, frames, engine):
            sink.write(upscaled.sr)
            count += 1
            rate = count / (time.perf_counter() - began)
            on_progress(Progress("progress", count, plan.num_frames, rate, 0))
        sink.close()
        if count == 0:
            raise InputError(f"{plan.source}: no frame lies between `start` and `end`.")
        if sink.pts:
            record = _record(part.name, sink, plan)
            finished = plan.target.finish([(part, record)], folder, lambda share: None)
            plan.target.check(finished, [record])
            plan.target.place(finished)
    seconds = time.perf_counter() - began
    return Result(
        output=plan.output,
        frames=count,
        lost=report.lost,
        seconds=seconds,
        fps=count / seconds if seconds else 0.0,
        engine=engine.name,
        notes=input_notes(report),
    )


def _record(name: str, sink: FrameSink, plan: Plan) -> SegmentRecord:
    """What `Output.finish` needs of the only segment; its last frame lasts as long as the mean."""
    duration = round(1 / (plan.info.rate * plan.info.time_base)) or 1
    return SegmentRecord(name, 0, sink.pts, sink.order, tail="", last_duration=duration)


def _upscaled(plan: Plan, frames: Iterator[Frame], engine: Engine) -> Iterator[UpscaledFrame]:
    """The upscaled frames in order; of a live source, those that the network is in time for."""
    unit = plan.info.time_base
    if plan.options.live:
        at_pace = frames if plan.source == PIPE else _paced(frames, unit)
        return run_network(single_segment(LatestOnly(at_pace), engine, unit), engine)
    return prefetch(run_network(single_segment(prefetch(frames), engine, unit), engine))


def _paced(frames: Iterator[Frame], unit: Fraction) -> Iterator[Frame]:
    """The frames of a file, each at its own time."""
    began: float | None = None
    for frame in frames:
        at = float(frame.pts * unit)
        began = time.monotonic() - at if began is None else began
        time.sleep(max(began + at - time.monotonic(), 0))
        yield frame
