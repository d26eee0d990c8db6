"""Run several models side by side on one stream of lr frames, and time each of them.

    pairs (lr, hr) ──SharedInputs──> ModelRunner of bicubic ──┐
                                └──> ModelRunner of model A ──┴──> ModelRow(lr, hr, srs)

The reference frames wait for the slowest model. No frame lives longer than needed, so that memory
does not depend on the length of a clip.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpreel import ops
from sharpreel.engines.base import Engine
from sharpreel.engines.choose import choose_engine
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import UsageError
from sharpreel.evaluation.results import BICUBIC, ModelInfo
from sharpreel.models.weights import Model, available_scales, load_model
from sharpreel.ops import Pixels
from sharpreel.upscale import upscale_frames

DEFAULT_SCALE = 2  # when no model is given that has one


def bicubic_engine(scale: float) -> Engine | None:
    """The engine of the bundled bicubic graph; None for a scale that is not bundled."""
    bundled = scale in available_scales(BICUBIC)
    return OpenVinoEngine(load_model(BICUBIC, scale)) if bundled else None


class SharedInputs:
    """One stream of frames for several readers; a frame is dropped once all have taken it.

    itertools.tee would keep blocks of 57 frames. `seconds` is the time that the stream itself took.
    """

    def __init__(self, frames: Iterable[Pixels], readers: int) -> None:
        self._frames = iter(frames)
        self._waiting: list[deque[Pixels]] = [deque() for _ in range(readers)]
        self.seconds = 0.0

    def reader(self, number: int) -> Iterator[Pixels]:
        """The frames for one of the readers, counted from 0."""
        own = self._waiting[number]
        while True:
            if not own:
                began = time.perf_counter()
                frame = next(self._frames, None)
                self.seconds += time.perf_counter() - began
                if frame is None:
                    return
                for waiting in self._waiting:
                    waiting.append(frame)
                del frame
            yield own.popleft()


class ModelRunner:
    """A model that is measured, and the time that its network took for the current clip.

    Args:
        engine: None for bicubic at a scale without a bundled graph.

    Attributes:
        info: Name, engine and checksum of the model.
        seconds, frames: Of the current clip, without the wait for its input.
    """

    def __init__(self, info: ModelInfo, engine: Engine | None, scale: float) -> None:
        self.info, self._engine, self._scale = info, engine, scale
        self.seconds, self.frames = 0.0, 0
        self._warm: object = None  # shape and type of the frames that it has processed

    def upscaled(self, lr: Iterator[Pixels], shared: SharedInputs) -> Iterator[Pixels]:
        """The frames of one clip, upscaled; resets the clock.

        Args:
            lr: A reader of `shared`, whose time does not count.
        """
        self.seconds, self.frames = 0.0, 0
        first = next(lr, None)
        if first is None:
            return
        kind = first.shape, first.dtype
        if kind != self._warm:  # graphs are compiled at their first frame
            deque(self._upscale([first]), maxlen=0)
            self._warm = kind
        srs = self._upscale(itertools.chain([first], lr))
        del first
        while True:
            began, before = time.perf_counter(), shared.seconds
            sr = next(srs, None)
            self.seconds += time.perf_counter() - began - (shared.seconds - before)
            if sr is None:
                return
            self.frames += 1
            yield sr
            del sr

    def _upscale(self, lr: Iterable[Pixels]) -> Iterator[Pixels]:
        if self._engine is not None:
            return upscale_frames(lr, engine=self._engine)
        return (
            ops.resize(frame, *(ops.enlarged(side, self._scale) for side in frame.shape[:2]))
            for frame in lr
        )

    @property
    def fps(self) -> float:
        """Frames per second of the network alone."""
        return self.frames / self.seconds if self.seconds > 0 else math.nan


def model_runners(
    models: Sequence[str | Path | Model],
    scale: float | None,
    device: str,
    engine: str,
    precision: str,
) -> tuple[list[ModelRunner], float]:
    """Runners of bicubic and of every model, and the scale that they share.

    Raises:
        UsageError: The models have different scales, or one is given twice.
    """
    loaded: list[tuple[str, Model]] = []
    for source in models:
        model = source if isinstance(source, Model) else load_model(source, scale)
        scale = model.scale if scale is None else scale
        if model.scale != scale:
            raise UsageError(
                f"{model.name} is a {model.scale:g}x model, the others are {scale:g}x: evaluate "
                "them separately."
            )
        loaded.append((source.name if isinstance(source, Model) else str(source), model))
    scale = DEFAULT_SCALE if scale is None else scale
    runners = [_bicubic_runner(scale)]
    loaded = [(source, model) for source, model in loaded if model.name != BICUBIC]
    uses = Counter(model.name for _, model in loaded)
    for name, model in loaded:
        title = model.name if uses[model.name] == 1 else name
        if title in (runner.info.name for runner in runners):
            raise UsageError(f"models: {name} is given twice.")
        chosen = choose_engine(model, device, engine, precision=precision)
        info = ModelInfo(title, name, chosen.name, model.digest(chosen.kind.precision))
        runners.append(ModelRunner(info, chosen, scale))
    return runners, scale


def _bicubic_runner(scale: float) -> ModelRunner:
    engine = bicubic_engine(scale)
    name = "arrays" if engine is None else engine.name
    digest = "" if engine is None else load_model(BICUBIC, scale).sha256
    return ModelRunner(ModelInfo(BICUBIC, BICUBIC, name, digest), engine, scale)


@dataclass(frozen=True)
class ModelRow:
    """One frame in every version: lr, reference, and the results of the models."""

    index: int
    lr: Pixels
    hr: Pixels
    srs: tuple[Pixels, ...]


def side_by_side(
    pairs: Iterator[tuple[Pixels, Pixels]], runners: list[ModelRunner]
) -> Iterator[ModelRow]:
    """Yield every frame of a clip in all versions, in order.

    Args:
        pairs: lr and hr of each frame. hr frames wait for networks that look ahead.
    """
    references: deque[Pixels] = deque()

    def lr_frames() -> Iterator[Pixels]:
        for lr, hr in pairs:
            references.append(hr)
            yield lr
            del lr, hr

    shared = SharedInputs(lr_frames(), len(runners) + 1)
    streams = [r.upscaled(shared.reader(k), shared) for k, r in enumerate(runners)]
    for index, (lr, *srs) in enumerate(zip(shared.reader(len(runners)), *streams, strict=True)):
        yield ModelRow(index, lr, references.popleft(), tuple(srs))
        del lr, srs
