"""One model of a benchmark, ready to run."""

from __future__ import annotations

import importlib.metadata
import itertools
import math
import platform
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpreel import ops
from sharpreel._version import __version__
from sharpreel.data.store import Clip
from sharpreel.engines.base import Engine
from sharpreel.engines.choose import choose_engine
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import MissingExtra, UsageError
from sharpreel.evaluation.metrics.niqe import Niqe
from sharpreel.evaluation.results import BICUBIC, ModelInfo
from sharpreel.media import images
from sharpreel.media.probe import IMAGE_SUFFIXES
from sharpreel.models.weights import Model, available_scales, load_model
from sharpreel.ops import Pixels
from sharpreel.system import download
from sharpreel.system.resources import usable_cpus
from sharpreel.upscale import upscale_frames

if TYPE_CHECKING:
    from sharpreel.evaluation.metrics.lpips import Lpips

PARTS = ("numpy", "av", "openvino", "torch", "opencv-python-headless", "imageio-ffmpeg")


def bicubic_frames(scale: float) -> Engine | None:
    """The bundled bicubic; None by a factor that it is not there for."""
    bundled = scale in available_scales(BICUBIC)
    return OpenVinoEngine(load_model(BICUBIC, scale)) if bundled else None


def upscaled_frames(clip: Clip, engine: Engine | None) -> Iterator[Pixels]:
    """By an engine; None: by bicubic, by a factor that no bundled network has."""
    if engine is None:
        return (ops.resize(frame, *clip.hr.shape[1:3]) for frame in clip.lr)
    engine.reset()
    return upscale_frames(clip.lr, engine=engine)


class SharedInputs:
    """One stream of frames for several readers; each frame is let go when the last has taken it.

    itertools.tee would keep blocks of 57. `seconds` is the time that the stream itself has taken.
    """

    def __init__(self, frames: Iterable[Pixels], readers: int) -> None:
        self._frames = iter(frames)
        self._waiting: list[deque[Pixels]] = [deque() for _ in range(readers)]
        self.seconds = 0.0

    def reader(self, number: int) -> Iterator[Pixels]:
        mine = self._waiting[number]
        while True:
            if not mine:
                began = time.perf_counter()
                frame = next(self._frames, None)
                self.seconds += time.perf_counter() - began
                if frame is None:
                    return
                for waiting in self._waiting:
                    waiting.append(frame)
                del frame
            yield mine.popleft()


class ModelRunner:
    """A model that is measured, and the time that its network has taken for the clip at hand.

    Args:
        engine: None for bicubic by a factor that no bundled graph has.
    """

    def __init__(self, info: ModelInfo, engine: Engine | None, scale: float) -> None:
        self.info, self._engine, self._scale = info, engine, scale
        self._warm: Any = None  # shape and type of the frames that it has seen

    def pictures(self, lr: Iterator[Pixels], shared: SharedInputs) -> Iterator[Pixels]:
        self.seconds, self.frames = 0.0, 0
        first = next(lr, None)
        if first is None:
            return
        kind = first.shape, first.dtype
        if kind != self._warm:  # graphs are compiled at their first frame
            deque(self._enlarged([first]), maxlen=0)
            self._warm = kind
        made = self._enlarged(itertools.chain([first], lr))
        del first
        while True:
            began, before = time.perf_counter(), shared.seconds
            picture = next(made, None)
            self.seconds += time.perf_counter() - began - (shared.seconds - before)
            if picture is None:
                return
            self.frames += 1
            yield picture
            del picture

    def _enlarged(self, lr: Iterable[Pixels]) -> Iterator[Pixels]:
        if self._engine is not None:
            return upscale_frames(lr, engine=self._engine)
        return (
            ops.resize(frame, *(ops.enlarged(side, self._scale) for side in frame.shape[:2]))
            for frame in lr
        )

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else math.nan


# The benchmark -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelRow:
    """One frame in every version."""

    index: int
    lr: Pixels
    hr: Pixels
    srs: tuple[Pixels, ...]


def open_lpips(trunk: Path, heads: Path, device: str) -> Lpips:
    try:
        import torch

        from sharpreel.evaluation.metrics.lpips import Lpips
    except ImportError as e:
        raise MissingExtra("LPIPS", "torch") from e
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return Lpips(trunk, heads, "cuda" if on_gpu else "cpu")


def niqe_model(path: Path) -> tuple[Niqe, str]:
    """The model in a file or of a folder's pictures, and what it is called in tables."""
    if not path.is_dir():
        return Niqe.load(path), f"{path}, SHA-256 {download.sha256_of(path)[:8]}"
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    try:
        return Niqe.fit(map(images.read_rgb, files)), f"{path}, fitted on its {len(files)} pictures"
    except ValueError as e:
        raise UsageError(f"{path}: {e}") from e


def model_runners(
    models: Sequence[str | Path | Model],
    scale: float | None,
    device: str,
    engine: str,
    precision: str,
) -> tuple[list[ModelRunner], float]:
    """Bicubic and every model, and the factor that they have in common."""
    loaded: list[tuple[str, Model]] = []
    for asked in models:
        model = asked if isinstance(asked, Model) else load_model(asked, scale)
        scale = model.scale if scale is None else scale
        if model.scale != scale:
            raise UsageError(
                f"{model.name} enlarges {model.scale:g} times, the others {scale:g} times: "
                "measure them apart."
            )
        loaded.append((asked.name if isinstance(asked, Model) else str(asked), model))
    factor = 2 if scale is None else scale
    baseline = bicubic_frames(factor)
    plain = "arrays" if baseline is None else baseline.name
    digest = "" if baseline is None else load_model(BICUBIC, factor).sha256
    runners = [ModelRunner(ModelInfo(BICUBIC, BICUBIC, plain, digest), baseline, factor)]
    loaded = [(asked, model) for asked, model in loaded if model.name != BICUBIC]
    twice = Counter(model.name for _, model in loaded)
    for asked, model in loaded:
        title = model.name if twice[model.name] == 1 else asked
        if title in (runner.info.name for runner in runners):
            raise UsageError(f"{asked} is asked for twice.")
        chosen = choose_engine(model, device, engine, precision=precision)
        info = ModelInfo(title, asked, chosen.name, model.digest(chosen.kind.precision))
        runners.append(ModelRunner(info, chosen, factor))
    return runners, factor


def versions() -> dict[str, str]:
    """What the numbers depend on: sharpreel, Python and the libraries that are installed."""
    found = {"sharpreel": __version__, "python": platform.python_version()}
    for part in PARTS:
        try:
            found[part] = importlib.metadata.version(part)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["system"] = platform.platform()
    found["processors"] = str(usable_cpus())
    return found


def gpu_memory_mb(engines: Iterable[str]) -> int | None:
    if not any(name.startswith("torch-cuda") for name in engines):
        return None
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20)
