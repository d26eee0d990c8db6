"""Several segments side by side in one network: for GPUs, which one frame at a time leaves idle.

    scan: decode, cue ──places──> lane 0   decode ──cues──┐             ┌──> encoder 0
          (no network)            lane 1   decode ──cues──┼─> network ──┼──> encoder 1
                                  lane 2   decode ──cues──┘  one batch  └──> encoder 2

A recurrent network makes its frames one after the other. Segments do not depend on each other
(`ResumePoint`), so the next frame of each of them is one batch. As on a cluster the input is
decoded twice: once to find where segments begin, and again by whoever makes one.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from sharpreel.engines.pytorch import TorchEngine
from sharpreel.errors import InputChangedError, InputError, UsageError
from sharpreel.pipeline.journal import Journal, ResumePoint, SegmentRecord, digest
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.segments import (
    cues_from,
    lookback,
    open_at,
    open_remaining,
    remaining_segments,
    write_segment,
)
from sharpreel.pipeline.stages import Progress, ProgressMeter, Result, UpscaledFrame, upscaled
from sharpreel.system.prefetch import PREFETCH_FRAMES, prefetch


class BatchedRunner:
    """Makes a plan's segments in this process, `options.batch` of them at once.

    The network always sees so many frames, repeated ones where lanes have ended, because the last
    bits of a picture may depend on how many go through together.

    Raises:
        UsageError: The network or its engine cannot do that.
    """

    def __init__(self, plan: Plan) -> None:
        engine = plan.choose_engine()
        if not isinstance(engine, TorchEngine) or not engine.keeps_state:
            raise UsageError(
                f"--batch {plan.options.batch}: only for networks with a state, run by torch; "
                f"{plan.model.name} by {engine.name} is none. Leave it out."
            )
        engine.fit(plan.info.height, plan.info.width)
        if engine.tile:
            raise UsageError(
                f"--batch {plan.options.batch}: a frame does not even fit into memory as a whole. "
                "Leave it out."
            )
        self.plan, self.engine = plan, engine
        self.engine_name = f"{engine.name}-batch{plan.options.batch}"

    def make(self, work: Journal, tell: Callable[[Progress], None]) -> Result:
        plan, engine = self.plan, self.engine
        source = open_remaining(plan, work, lookback(engine))
        meter = ProgressMeter(plan, work, tell)
        segments = remaining_segments(plan, source, engine, work.waiting)
        lanes: list[SegmentStream] = []
        with ThreadPoolExecutor(plan.options.batch) as pool, ExitStack() as opened:
            coming = opened.enter_context(closing(prefetch(segments, plan.options.batch)))
            opened.callback(close_all, lanes)
            while True:
                while len(lanes) < plan.options.batch and (found := next(coming, None)):
                    lanes.append(SegmentStream(plan, engine, work, found, pool))
                if not lanes:
                    break
                self._step(lanes, meter)
                for lane in [lane for lane in lanes if lane.left == 0]:
                    lanes.remove(lane)
                    lane.finish()
                    meter.tell("segment")
        return meter.result(plan, work, source.report, self.engine_name)

    def _step(self, lanes: list[SegmentStream], meter: ProgressMeter) -> None:
        """One frame of each lane."""
        cues = [next(lane.cues) for lane in lanes]
        for lane, one in zip(lanes, cues, strict=True):
            if one.fresh:
                lane.state = None
        idle = self.plan.options.batch - len(lanes)
        pixels = [one.frame.pixels for one in cues]
        states = [lane.state for lane in lanes]
        made, states = self.engine.run_batch(pixels + pixels[:1] * idle, states + states[:1] * idle)
        for lane, one, picture, state in zip(lanes, cues, made, states, strict=False):
            lane.state = state
            if one.shown:
                lane.put(upscaled(one, picture))
                meter.add(one.segment)


def close_all(lanes: Iterable[SegmentStream]) -> None:
    for lane in lanes:
        lane.close()


class SegmentStream:
    """One segment in the making: its input from its place on, its state, and its encoder.

    Args:
        found: Where it begins, and what the scan knows of it.
    """

    def __init__(
        self,
        plan: Plan,
        engine: TorchEngine,
        work: Journal,
        found: tuple[ResumePoint, SegmentRecord],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._work, (place, self._entry) = work, found
        try:
            source = open_at(plan, place, lookback(engine))
        except InputChangedError as e:
            raise InputError(f"{plan.source}: changed while it was read.") from e
        self.left = len(self._entry.pts)
        self.state: Any = None
        self._tail = source.tail
        self.cues: Iterator[Any] = cues_from(place, prefetch(source.frames), plan, engine)
        self._part = work.path(f"part-{self._entry.name}")
        self._sink = plan.sink(self._part)
        self._pictures: queue.Queue[UpscaledFrame | None] = queue.Queue(PREFETCH_FRAMES)
        waiting = iter(self._pictures.get, None)
        self._written: Future[None] = pool.submit(write_segment, waiting, self._sink, self._tail)

    def put(self, picture: UpscaledFrame) -> None:
        """Hand a picture to the encoder's thread; what that raised is raised here."""
        self._hand_over(picture)
        self.left -= 1

    def finish(self) -> None:
        """Put the whole segment into the journal."""
        try:
            self._hand_over(None)
            self._written.result()
        finally:
            self.close()
        if self._sink.pts != self._entry.pts or digest(self._tail) != self._entry.tail:
            raise InputError(f"{self._work.folder}: the input decodes otherwise the second time.")
        self._work.commit(self._part, replace(self._entry, order=self._sink.order))

    def close(self) -> None:
        """Stop the threads."""
        close: Any = getattr(self.cues, "close", None)
        if close is not None:
            close()
        while not self._written.done():
            try:
                self._pictures.put(None, timeout=0.1)
            except queue.Full:
                continue

    def _hand_over(self, picture: UpscaledFrame | None) -> None:
        while True:
            try:
                self._pictures.put(picture, timeout=0.1)
                return
            except queue.Full:
                if self._written.done():
                    self._written.result()
