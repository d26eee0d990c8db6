"""Runs the network over scheduled frames, and counts progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel import ops
from sharpreel.engines.base import Engine
from sharpreel.engines.choose import choose_engine
from sharpreel.media.frame import Frame
from sharpreel.media.reader import ReadReport
from sharpreel.models.weights import Model, load_model
from sharpreel.ops import Pixels
from sharpreel.pipeline.journal import Journal
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.schedule import FrameCue, clip_windows, frame_cues


@dataclass(frozen=True)
class UpscaledFrame:
    """An enlarged frame on its way to the encoder, with the input frame it came from."""

    segment: int
    sr: Frame
    lr: Frame


@dataclass(frozen=True)
class Progress:
    """The progress of a run, passed to the progress callback.

    `event` is "start", "progress", "segment" (one more is on disk), "join", "verify" or, on a
    cluster, "again" (a segment is computed a second time; `note` states which one, and why).
    `nodes` maps a cluster's machines to the frames per second of each.
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
    """The result of a run.

    `lost` frames of the input did not decode and are not in the output. `resumed_frames` are from
    an earlier run; `fps` counts the frames of this one only.
    """

    output: Path
    frames: int
    lost: int
    seconds: float
    fps: float
    engine: str
    resumed_frames: int = 0
    notes: list[str] = field(default_factory=list)


ProgressCallback = Callable[[Progress], None]


def single_segment(
    frames: Iterable[Frame], engine: Engine, time_base: Fraction = Fraction(0)
) -> Iterator[FrameCue]:
    """Cues of a single unbounded segment, in which only scene cuts reset the state."""
    return frame_cues(
        frames,
        time_base,
        warm_up=0,
        segment_seconds=float("inf"),
        max_frames=None,
        keeps_state=not engine.clip_len,
    )


def checked_frames(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    """The same frames, checked one by one.

    Raises:
        ValueError: A frame is not an RGB array of uint8 or uint16, or differs from those before.
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


def run_network(cues: Iterable[FrameCue], engine: Engine) -> Iterator[UpscaledFrame]:
    """Run the network on each cue and yield the upscaled frames that belong to the output."""
    if engine.clip_len:
        for part in clip_windows(cues, engine.clip_len, engine.past, engine.future):
            frames = [*part.before, *(c.frame for c in part.cues), *part.after]
            frames_out = engine.run_clip(
                [f.pixels for f in frames], len(part.before), len(part.cues)
            )
            yield from map(upscaled, part.cues, frames_out)
        return
    for one in cues:
        if one.fresh:
            engine.reset()
        pixels = engine.run(one.frame.pixels)
        if one.shown:
            yield upscaled(one, pixels)


def upscaled(one: FrameCue, pixels: Pixels) -> UpscaledFrame:
    """The network's frame for a cue, with the input frame and its alpha enlarged."""
    lr, alpha = one.frame, one.frame.alpha
    if alpha is not None:
        alpha = ops.resize(alpha, *pixels.shape[:2])
    return UpscaledFrame(one.segment, replace(lr, pixels=pixels, alpha=alpha), lr)


class ProgressMeter:
    """Tracks the progress of a run and reports it."""

    def __init__(self, plan: Plan, work: Journal, on_progress: ProgressCallback) -> None:
        self._on_progress, self._began = on_progress, time.perf_counter()
        done = work.frames
        self.progress = Progress("start", done, plan.num_frames, 0.0, len(work.entries), done)
        self.report("start", work.restarted)

    def report(self, event: str, note: str = "") -> None:
        self._on_progress(replace(self.progress, event=event, note=note))

    def add(self, segment: int, frames: int = 1, nodes: Mapping[str, float] | None = None) -> None:
        before = self.progress
        count = before.frames + frames
        fps = (count - before.resumed_frames) / (time.perf_counter() - self._began)
        self.progress = replace(
            before, frames=count, fps=fps, segment=segment, nodes=nodes or before.nodes
        )
        self.report("progress")

    def result(self, plan: Plan, work: Journal, report: ReadReport, engine: str) -> Result:
        end = work.entries[-1].pts[-1] if work.entries else None
        after = sum(end is None or at > end for at, _ in report.errors)
        return Result(
            output=plan.output,
            frames=self.progress.frames,
            lost=sum(e.lost for e in work.entries) + after + report.missing,
            seconds=time.perf_counter() - self._began,
            fps=self.progress.fps,
            engine=engine,
            resumed_frames=self.progress.resumed_frames,
            notes=input_notes(report),
        )


def input_notes(report: ReadReport) -> list[str]:
    """Warnings about the input, found while decoding."""
    reasons = Counter(reason for _, reason in report.errors)
    notes = [f"{reason} ({count} times)" for reason, count in reasons.items()]
    if report.missing:
        notes.append(f"the file ends {report.missing} frames before its index does")
    if report.damaged:
        notes.append(f"{report.damaged} frames are damaged but were decoded")
    if report.retimed:
        notes.append(
            f"{report.retimed} frames had no later timestamp of their own and were given one"
        )
    return notes


def engine_for(
    model: str | Path | Model, scale: float | None, device: str, engine: str | Engine
) -> Engine:
    """The engine for the arguments of `upscale_frames`."""
    if not isinstance(engine, str):
        return engine
    loaded = model if isinstance(model, Model) else load_model(model, scale)
    return choose_engine(loaded, device, engine)
