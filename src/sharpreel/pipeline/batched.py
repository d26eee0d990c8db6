"""Batched upscaling: several segments in parallel through one network, to keep a GPU busy.

    scan: decode, cue ──points──> stream 0   decode ──cues──┐             ┌──> encoder 0
          (no network)            stream 1   decode ──cues──┼─> network ──┼──> encoder 1
                                  stream 2   decode ──cues──┘  one batch  └──> encoder 2

A recurrent network computes its frames one after the other. Segments do not depend on each other
(`ResumePoint`), so the next frame of each of them is one batch. As on a cluster, the input is
decoded twice: once to find where segments begin, and again for each segment.
"""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from sharpreel.engines.pytorch import TorchEngine
from sharpreel.errors import InputChangedError, InputError, UsageError
from sharpreel.pipeline.journal import Journal, ResumePoint, SegmentRecord, digest
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.schedule import FrameCue
from sharpreel.pipeline.segments import (
    cues_from,
    lookback,
    open_at,
    open_remaining,
    remaining_segments,
    write_segment,
)
from sharpreel.pipeline.stages import (
    ProgressCallback,
    ProgressMeter,
    Result,
    UpscaledFrame,
    upscaled,
)
from sharpreel.system.prefetch import PREFETCH_FRAMES, prefetch


class BatchedRunner:
    """Computes a plan's segments in this process, `options.batch` of them at once.

    The network always sees `options.batch` frames, repeated ones where streams have ended, because
    the last bits of a frame may depend on how many go through together.

    Raises:
        UsageError: The network or its engine cannot do that.
    """

    def __init__(self, plan: Plan) -> None:
        batch, engine = plan.options.batch, plan.choose_engine()
        if not isinstance(engine, TorchEngine) or not engine.keeps_state:
            raise UsageError(
                f"batch={batch}: only for networks that carry a state, run by PyTorch; "
                f"{plan.model.name} by {engine.name} is not one. Remove `batch`."
            )
        engine.fit(plan.info.height, plan.info.width)
        if engine.tile:
            raise UsageError(
                f"batch={batch}: batching needs whole frames to fit into GPU memory, and one "
                "does not. Remove `batch`."
            )
        self.plan, self.engine = plan, engine
        self.engine_name = f"{engine.name}-batch{batch}"

    def make(self, work: Journal, on_progress: ProgressCallback) -> Result:
        plan, engine = self.plan, self.engine
        source = open_remaining(plan, work, lookback(engine))
        meter = ProgressMeter(plan, work, on_progress)
        segments = remaining_segments(plan, source, engine, work.waiting)
        streams: list[SegmentStream] = []
        with ThreadPoolExecutor(plan.options.batch) as pool, ExitStack() as opened:
            remaining = opened.enter_context(closing(prefetch(segments, plan.options.batch)))
            opened.callback(_close_all, streams)
            while True:
                while len(streams) < plan.options.batch and (task := next(remaining, None)):
                    streams.append(SegmentStream(plan, engine, work, task, pool))
                if not streams:
                    break
                self._step(streams, meter)
                for stream in [stream for stream in streams if stream.left == 0]:
                    streams.remove(stream)
                    stream.finish()
                    meter.report("segment")
        return meter.result(plan, work, source.report, self.engine_name)

    def _step(self, streams: list[SegmentStream], meter: ProgressMeter) -> None:
        """Run one frame of each stream."""
        cues = [next(stream.cues) for stream in streams]
        for stream, cue in zip(streams, cues, strict=True):
            if cue.fresh:
                stream.state = None
        idle = self.plan.options.batch - len(streams)
        pixels = [cue.frame.pixels for cue in cues]
        states = [stream.state for stream in streams]
        frames, states = self.engine.run_batch(
            pixels + pixels[:1] * idle, states + states[:1] * idle
        )
        for stream, cue, frame, state in zip(streams, cues, frames, states, strict=False):
            stream.state = state
            if cue.shown:
                stream.put(upscaled(cue, frame))
                meter.add(cue.segment)


def _close_all(streams: Iterable[SegmentStream]) -> None:
    for stream in streams:
        stream.close()


class SegmentStream:
    """One segment while it is computed: its input from its resume point on, state and encoder.

    Args:
        task: Where it begins, and what the scan knows of it.
    """

    def __init__(
        self,
        plan: Plan,
        engine: TorchEngine,
        work: Journal,
        task: tuple[ResumePoint, SegmentRecord],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._work, (point, self._record) = work, task
        try:
            source = open_at(plan, point, lookback(engine))
        except InputChangedError as e:
            raise InputError(f"{plan.source}: changed while it was read.") from e
        self.left = len(self._record.pts)
        self.state: Any = None
        self._tail = source.tail
        self._frames = prefetch(source.frames)
        self.cues: Generator[FrameCue] = _as_generator(cues_from(point, self._frames, plan, engine))
        self._part = work.path(f"part-{self._record.name}")
        self._sink = plan.target.sink(self._part)
        self._upscaled: queue.Queue[UpscaledFrame | None] = queue.Queue(PREFETCH_FRAMES)
        waiting = iter(self._upscaled.get, None)
        self._written: Future[None] = pool.submit(write_segment, waiting, self._sink, self._tail)

    def put(self, frame: UpscaledFrame) -> None:
        """Pass a frame to the encoder's thread; an exception there is raised here."""
        self._hand_over(frame)
        self.left -= 1

    def finish(self) -> None:
        """Journal the complete segment."""
        try:
            self._hand_over(None)
            self._written.result()
        finally:
            self.close()
        if self._sink.pts != self._record.pts or digest(self._tail) != self._record.tail:
            raise InputError(
                f"{self._work.folder}: the input decoded differently on the second pass."
            )
        self._work.commit(self._part, replace(self._record, order=self._sink.order))

    def close(self) -> None:
        """Stop the threads."""
        self.cues.close()
        self._frames.close()
        while not self._written.done():
            try:
                self._upscaled.put(None, timeout=0.1)
            except queue.Full:
                continue

    def _hand_over(self, frame: UpscaledFrame | None) -> None:
        while True:
            try:
                self._upscaled.put(frame, timeout=0.1)
                return
            except queue.Full:
                if self._written.done():
                    self._written.result()


def _as_generator(cues: Iterable[FrameCue]) -> Generator[FrameCue]:
    yield from cues
