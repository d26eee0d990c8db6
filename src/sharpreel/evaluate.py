"""Benchmark in, table out: what networks gain over bicubic on clips whose truth is known.

A clip is reduced and enlarged again by `upscale_frames`, the very function that users call, so the
numbers are about the product and not about a training graph. `benchmark` takes any number of clips
of any length and several networks at once, bicubic always first; `evaluate` scores one engine on
clips in memory, as training does.

    frames ──reduce──> lr ─┬─> bicubic ──┬─> Tally    the truth waits for the slowest; no frame
              truth ───────┼─> network A ┼─> Tally    lives longer, so that a film needs no more
                           └─> network B ┴─> Tally    memory than a trailer
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib.metadata
import itertools
import math
import platform
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import sharpreel
from sharpreel import data, degrade, images, memory, metrics, ops, video
from sharpreel.data import Clip
from sharpreel.engine import Engine, OpenVinoEngine, choose_engine
from sharpreel.errors import InputError, UsageError, write_error
from sharpreel.metrics import PROTOCOLS, Protocol
from sharpreel.ops import Frame
from sharpreel.upscale import upscale_frames
from sharpreel.weights import Model, available_scales, load_model

PROTOCOL = "P1: PSNR on Y (BT.601 studio, not rounded), BI, no border crop, all frames"
BICUBIC = "bicubic"
GIVEN = "given"
# Degradations that are made frame by frame. The others draw something for a whole clip, or code
# it: they get stretches of at most so many frames and bytes.
STREAMED = frozenset({"bi", "bd", "bd-duf", "bd-tecogan", "area"})
STRETCH_FRAMES, STRETCH_BYTES = 100, 1 << 28
SEED = 0  # of degradations with chance: what `data.Store.pairs` makes by default
CROP = (120, 160)  # height and width of the pieces that are kept to be looked at
PARTS = ("numpy", "av", "openvino", "torch", "opencv-python-headless", "imageio-ffmpeg")

Tell = Callable[[str, int, int | None], None]  # clip, frames done, frames in all where known


# Clips in memory -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """One clip's mean PSNR on Y over its frames, in dB, and the same for bicubic."""

    clip: str
    psnr: float
    bicubic: float

    @property
    def gain(self) -> float:
        return self.psnr - self.bicubic


def evaluate(engine: Engine, clips: Iterable[Clip]) -> list[Score]:
    """Score an engine on clips; each clip begins with an empty state."""
    baseline = _bicubic(engine.scale)
    return [
        Score(
            clip.name,
            _mean_psnr(engine, clip),
            _resized_psnr(clip) if baseline is None else _mean_psnr(baseline, clip),
        )
        for clip in clips
    ]


def _bicubic(scale: float) -> Engine | None:
    """The bundled bicubic; None by a factor that it is not there for."""
    bundled = scale in available_scales(BICUBIC)
    return OpenVinoEngine(load_model(BICUBIC, scale)) if bundled else None


def _resized_psnr(clip: Clip) -> float:
    """As `_mean_psnr`, of bicubic by a factor that no bundled network has."""
    size = clip.hr.shape[1:3]
    sr = (ops.resize(frame, *size) for frame in clip.lr)
    return float(np.mean([metrics.psnr_y(a, b) for a, b in zip(sr, clip.hr, strict=True)]))


def _mean_psnr(engine: Engine, clip: Clip) -> float:
    engine.reset()
    sr = upscale_frames(clip.lr, engine=engine)
    return float(np.mean([metrics.psnr_y(a, b) for a, b in zip(sr, clip.hr, strict=True)]))


def mean_gain(scores: list[Score]) -> float:
    """Mean over clips of the gain over bicubic, dB."""
    return float(np.mean([score.gain for score in scores]))


def markdown(title: str, scores: list[Score]) -> str:
    """The scores as a Markdown table with the protocol in its caption."""
    rows = [f"| {s.clip} | {s.bicubic:.2f} | {s.psnr:.2f} | {s.gain:+.2f} |" for s in scores]
    bicubic, psnr = (float(np.mean([getattr(s, k) for s in scores])) for k in ("bicubic", "psnr"))
    rows.append(f"| **mean** | {bicubic:.2f} | {psnr:.2f} | {mean_gain(scores):+.2f} |")
    head = ["| clip | bicubic | " + title + " | gain |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{PROTOCOL}; dB."])


# What a benchmark finds ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame of one model. `frame` counts from 0 at the beginning of the clip."""

    frame: int
    psnr: float
    ssim: float
    constant: bool = False  # of one colour all over, where the truth is not

    @property
    def qm(self) -> float:
        return metrics.qm(self.psnr, self.ssim)


@dataclass(frozen=True)
class ModelResult:
    """One model on one clip: means over the frames that the protocol counts.

    Times are means over pairs of neighbouring frames; None: not measured.
    """

    model: str
    psnr: float  # dB
    ssim: float
    qm: float
    tof: float | None  # pixels
    warping_error: float | None  # of values in [0, 1]
    flicker: float | None  # levels of 255
    vmaf: float | None
    vmaf_neg: float | None
    fps: float  # of the network alone, one frame of warm-up aside
    frames: tuple[FrameScore, ...] = field(repr=False)


@dataclass(frozen=True)
class ClipResult:
    """One clip: its sizes in pixels, its frames in all and those that count, and every model."""

    clip: str
    width: int
    height: int
    lr_width: int
    lr_height: int
    frames: int
    counted: int
    truth_warping_error: float | None
    results: tuple[ModelResult, ...]

    def of(self, model: str) -> ModelResult:
        return next(result for result in self.results if result.model == model)


@dataclass(frozen=True)
class ModelInfo:
    """A model that was measured: what ran, on which engine, and the sum of its weights."""

    name: str
    source: str  # as it was asked for
    engine: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Crop:
    """A piece of one frame to be looked at, in every version, about where most detail is.

    Attributes:
        kind: "best" or "worst" frame of its clip, by `gain`; "only" of a single one.
        gain: Of `model` over bicubic in this whole frame, dB; of bicubic alone, its PSNR.
        top, left: Of the piece in the truth, pixels.
        lr, truth: RGB, (H, W, 3).
        pictures: One for each model, of the size and type of the truth.
    """

    clip: str
    frame: int
    kind: str
    model: str
    gain: float
    top: int
    left: int
    lr: Frame = field(repr=False)
    truth: Frame = field(repr=False)
    pictures: Mapping[str, Frame] = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Everything that `benchmark` found, and how; `notes` say what no mean tells.

    `peak_memory_mb` is the whole process's, all models and measures in it.
    """

    protocol: str
    protocol_text: str
    degradation: str
    scale: float
    models: tuple[ModelInfo, ...]  # bicubic first
    clips: tuple[ClipResult, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    seconds: float
    peak_memory_mb: int | None
    gpu_memory_mb: int | None = None
    crops: tuple[Crop, ...] = field(default=(), repr=False)

    def mean(self, model: str, measure: str) -> float | None:
        """The mean over clips of a field of `ModelResult`; None where it was not measured."""
        found = [getattr(clip.of(model), measure) for clip in self.clips]
        return _mean(found)

    def gain(self, model: str) -> float:
        """The mean over clips of PSNR above bicubic's, dB."""
        edges = [clip.of(model).psnr - clip.of(BICUBIC).psnr for clip in self.clips]
        return float(np.mean(edges))

    def score(self, model: str) -> float:
        """The share of clips whose QM is above bicubic's (`metrics.score`)."""
        return metrics.score([clip.of(model).qm - clip.of(BICUBIC).qm for clip in self.clips])

    @property
    def title(self) -> str:
        """How the numbers were taken, in a line; it belongs under every table of them."""
        return f"x{self.scale:g}, degradation {self.degradation}, protocol {self.protocol}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with all digits; "inf", "-inf" and "nan" are strings that `float` reads."""
        content = {
            f.name: plain(getattr(self, f.name))
            for f in dataclasses.fields(self)
            if f.name != "crops"
        }
        measures = [f.name for f in dataclasses.fields(ModelResult)][1:-1]
        content["means"] = {
            model.name: {
                **{name: plain(self.mean(model.name, name)) for name in measures},
                "gain_db": plain(self.gain(model.name)),
                "score": self.score(model.name),
            }
            for model in self.models
        }
        places = ("clip", "frame", "kind", "model", "gain", "top", "left")
        content["crops"] = [
            {name: plain(getattr(crop, name)) for name in places} for crop in self.crops
        ]
        return content


def plain(value: Any) -> Any:
    """The same as JSON has it; frames' scores are written as columns."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, tuple) and value and isinstance(value[0], FrameScore):
        names = [f.name for f in dataclasses.fields(FrameScore)]
        return {name: [plain(getattr(score, name)) for score in value] for name in names}
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _mean(values: Sequence[float | None]) -> float | None:
    """None where nothing was measured; a NaN or an infinity among the values stays one."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _mean_of_pairs(values: Sequence[float]) -> float | None:
    """As `_mean`, of the pairs that have a number: some measures have none after a cut."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else (math.nan if values else None)


# Measuring one model on one clip -------------------------------------------------------------


class Tally:
    """What one model's pictures of a clip come to; it holds the last pair of frames, and numbers.

    Args:
        temporal: Measure tOF, warping error and flicker, too, which needs OpenCV.
    """

    def __init__(self, protocol: Protocol, temporal: bool) -> None:
        self.protocol, self.temporal = protocol, temporal
        self.scores: list[FrameScore] = []
        self._before: tuple[Frame, Frame] | None = None
        self._tof: list[float] = []
        self._warping: list[float] = []
        self._flicker: list[float] = []

    def add(self, index: int, sr: Frame, hr: Frame) -> None:
        """Measure the next frame that counts.

        Raises:
            ValueError: The frames are of two shapes or types, or too small for the protocol.
            MissingExtra: OpenCV is not there.
        """
        found = metrics.measure(sr, hr, self.protocol)
        broken = metrics.is_constant(sr) and not metrics.is_constant(hr)
        self.scores.append(FrameScore(index, found.psnr, found.ssim, broken))
        if self.temporal and self._before is not None:
            pairs = self._before[0], sr, self._before[1], hr
            self._tof.append(metrics.tof_pair(*pairs, protocol=self.protocol))
            if min(hr.shape[:2]) >= metrics.FLOW_SMALLEST:
                self._warping.append(metrics.warping_error(*pairs))
            self._flicker.append(metrics.flicker(*pairs))
        self._before = sr, hr

    def result(
        self, model: str, fps: float, vmaf: Mapping[str, float] | None = None
    ) -> ModelResult:
        psnr, ssim = (
            float(np.mean([getattr(score, name) for score in self.scores]))
            for name in ("psnr", "ssim")
        )
        vmaf = vmaf or {}
        return ModelResult(
            model=model,
            psnr=psnr,
            ssim=ssim,
            qm=metrics.qm(psnr, ssim),
            tof=_mean_of_pairs(self._tof),
            warping_error=_mean_of_pairs(self._warping),
            flicker=_mean_of_pairs(self._flicker),
            vmaf=vmaf.get("vmaf"),
            vmaf_neg=vmaf.get("vmaf_neg"),
            fps=fps,
            frames=tuple(self.scores),
        )

    def notes(self) -> list[str]:
        """What the means hide, or what made one infinite or no number."""
        notes = []
        for what, frames in (
            (
                "of one colour where the truth is not, and counted",
                [s.frame for s in self.scores if s.constant],
            ),
            ("equal to the truth", [s.frame for s in self.scores if s.psnr == math.inf]),
            (
                "without a number (NaN), which makes the mean one",
                [s.frame for s in self.scores if math.isnan(s.psnr) or math.isnan(s.ssim)],
            ),
        ):
            if frames:
                notes.append(f"{listed('frame', frames)} {what}")
        for name, values in (("warping error", self._warping), ("flicker", self._flicker)):
            empty = sum(map(math.isnan, values))
            if empty:
                notes.append(
                    f"{empty} of {len(values)} pairs of frames have no {name} (a cut, or nothing "
                    "that stands still) and are not in its mean"
                )
        return notes


def listed(word: str, numbers: Sequence[int], most: int = 5) -> str:
    """ "frame 3 is", "frames 3, 4, 5, 6, 7 and 12 more are"."""
    if len(numbers) == 1:
        return f"{word} {numbers[0]} is"
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"{word}s {', '.join(map(str, numbers[:most]))}{more} are"


class _Shared:
    """One stream of frames for several readers; each frame is let go when the last has taken it.

    itertools.tee would keep blocks of 57. `seconds` is the time that the stream itself has taken.
    """

    def __init__(self, frames: Iterable[Frame], readers: int) -> None:
        self._frames = iter(frames)
        self._waiting: list[deque[Frame]] = [deque() for _ in range(readers)]
        self.seconds = 0.0

    def reader(self, number: int) -> Iterator[Frame]:
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


class _Runner:
    """A model that is measured, and the time that its network has taken for the clip at hand.

    Args:
        engine: None for bicubic by a factor that no bundled graph has.
    """

    def __init__(self, info: ModelInfo, engine: Engine | None, scale: float) -> None:
        self.info, self._engine, self._scale = info, engine, scale
        self._warm: Any = None  # shape and type of the frames that it has seen

    def pictures(self, lr: Iterator[Frame], shared: _Shared) -> Iterator[Frame]:
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

    def _enlarged(self, lr: Iterable[Frame]) -> Iterator[Frame]:
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
class _Input:
    """A clip that can be read: its truth, and its twin in low resolution where one is given."""

    name: str
    hr: Callable[[], Iterator[Frame]]
    lr: Callable[[], Iterator[Frame]] | None
    total: int | None
    exact: bool  # `total` was counted; not what a container says of itself


@dataclass(frozen=True)
class _Row:
    """One frame in every version."""

    index: int
    lr: Frame
    hr: Frame
    srs: tuple[Frame, ...]


def benchmark(
    models: Sequence[str | Path | Model],
    source: Path | str,
    *,
    degradation: str = "bi",
    scale: float | None = None,
    protocol: str | Protocol = "P1",
    list_file: Path | None = None,
    lr_folder: Path | None = None,
    max_frames: int | None = None,
    temporal: bool = True,
    with_vmaf: bool = False,
    device: str = "auto",
    engine: str = "auto",
    tell: Tell | None = None,
) -> Evaluation:
    """Measure models, side by side and with bicubic, on clips in high resolution.

    Frames stream: memory depends on the size of frames and not on their number. The degradations
    bi, bd, bd-duf, bd-tecogan and area are made frame by frame; the others, which draw something
    for a whole clip or code it, in stretches of at most 100 frames, each drawn anew, which the
    notes say. Sizes are cut to what the factor divides, at the bottom and the right.

    Args:
        models: Names of `sharpreel models` or model files, all of one factor. The first is the
            one whose best and worst frames are kept.
        source: A folder of clips as `data.find_clips` finds them, a data store, or one video.
        degradation: A key of `degrade.DEGRADATIONS`, or "given": as a store or `lr_folder` has it.
        scale: Factor; by default the first model's.
        protocol: A key of `metrics.PROTOCOLS`, or a variant of one.
        list_file: Names of the clips to take; see `data.find_clips`.
        lr_folder: Frames in low resolution, laid out as the source is, to be taken in the place
            of reduced ones.
        max_frames: Of each clip, at most so many.
        temporal: Measure tOF, warping error and flicker, which needs OpenCV and takes most of the
            time of small networks.
        with_vmaf: Measure VMAF and VMAF-NEG, too, through lossless files in the folder for
            temporary ones: about two bytes for each pixel, frame and model.
        device, engine: See `upscale_frames`.
        tell: Called for each frame with the clip's name, the frames done and, where that is
            known, the frames in all.

    Raises:
        InputError: A clip cannot be read; its twin has other frames, or of another size.
        UsageError: No such model, degradation or protocol, or they do not go together.
    """
    began = time.perf_counter()
    rule = to_protocol(protocol)
    if lr_folder is not None:
        if degradation not in ("bi", GIVEN):
            raise UsageError(
                f"The low-resolution frames are given by {lr_folder}: leave {degradation!r} out."
            )
        degradation = GIVEN
    runners, factor = _runners(models, scale, device, engine)
    _check_degradation(degradation, factor)
    notes: list[str] = []
    inputs = _inputs(Path(source), list_file, lr_folder, degradation, max_frames, notes)
    clips: list[ClipResult] = []
    crops: list[Crop] = []
    for each in inputs:
        one = _counted(each, max_frames) if rule.only_centre else each
        pairs = _pairs(one, degradation, factor, max_frames, notes)
        try:
            result, kept = _measure(
                one, pairs, runners, rule, temporal, with_vmaf, factor, tell, notes
            )
        except ValueError as e:
            raise UsageError(f"{one.name}: {e}") from e
        clips.append(result)
        crops += kept
    return Evaluation(
        protocol=rule.name,
        protocol_text=rule.summary,
        degradation=degradation,
        scale=factor,
        models=tuple(runner.info for runner in runners),
        clips=tuple(clips),
        notes=tuple(notes),
        settings={
            "source": str(source),
            "list_file": None if list_file is None else str(list_file),
            "lr_folder": None if lr_folder is None else str(lr_folder),
            "max_frames": max_frames,
            "temporal": temporal,
            "vmaf": with_vmaf,
            "device": device,
            "engine": engine,
            "seed": SEED,
            "protocol": {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)},
        },
        versions=versions(),
        seconds=time.perf_counter() - began,
        peak_memory_mb=memory.peak_memory_mb(),
        gpu_memory_mb=_gpu_memory(runner.info.engine for runner in runners),
        crops=tuple(crops),
    )


def to_protocol(protocol: str | Protocol) -> Protocol:
    """A key of PROTOCOLS, or a variant, as a protocol.

    Raises:
        UsageError: There is no such key.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[protocol]


def _check_degradation(name: str, scale: float) -> None:
    """Raise UsageError unless frames can be reduced so, by this factor."""
    if name == GIVEN:
        return
    if scale != int(scale):
        if name not in ("bi", "area"):
            raise UsageError(
                f"By {scale:g} frames are reduced by bi or area alone, not by {name!r}."
            )
        return
    side = 16 * int(scale)
    degrade.degrade(np.zeros((1, side, side, 3), np.uint8), int(scale), name)


def _runners(
    models: Sequence[str | Path | Model], scale: float | None, device: str, engine: str
) -> tuple[list[_Runner], float]:
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
    baseline = _bicubic(factor)
    plain = "arrays" if baseline is None else baseline.name
    digest = "" if baseline is None else load_model(BICUBIC, factor).sha256
    runners = [_Runner(ModelInfo(BICUBIC, BICUBIC, plain, digest), baseline, factor)]
    loaded = [(asked, model) for asked, model in loaded if model.name != BICUBIC]
    twice = Counter(model.name for _, model in loaded)
    for asked, model in loaded:
        title = model.name if twice[model.name] == 1 else asked
        if title in (runner.info.name for runner in runners):
            raise UsageError(f"{asked} is asked for twice.")
        chosen = choose_engine(model, device, engine)
        info = ModelInfo(title, asked, chosen.name, model.sha256)
        runners.append(_Runner(info, chosen, factor))
    return runners, factor


def _inputs(
    source: Path,
    list_file: Path | None,
    lr_folder: Path | None,
    degradation: str,
    max_frames: int | None,
    notes: list[str],
) -> list[_Input]:
    """The clips of a store, of a folder, or the one video."""
    if source.is_dir() and data.is_store(source):
        if list_file is not None or lr_folder is not None:
            raise UsageError(f"{source} is a data store: lists and twins belong to `data prepare`.")
        return _of_store(data.open_store(source), degradation, max_frames)
    if source.is_dir():
        sources = data.find_clips(source, list_file, lr_folder)
    elif source.exists():
        twins: tuple[Path, ...] = ()
        if lr_folder is not None:
            twins = (lr_folder / source.name if lr_folder.is_dir() else lr_folder,)
        sources = [data.Source(source.stem, (source,), twins)]
    else:
        raise InputError(f"{source}: no such file or folder.")
    if degradation == GIVEN and not all(one.lr_paths for one in sources):
        raise UsageError(
            f"{source}: say which folder holds the frames in low resolution, or name a degradation."
        )

    def stream(paths: tuple[Path, ...], name: str) -> Callable[[], Iterator[Frame]]:
        return lambda: _decoded(paths, name, notes)

    found = []
    for one in sources:
        is_video = one.paths[0].suffix.lower() not in video.IMAGE_SUFFIXES
        total = video.probe(one.paths[0]).num_frames if is_video else len(one.paths)
        if total is not None and max_frames is not None:
            total = min(total, max_frames)
        lr = stream(one.lr_paths, f"{one.name}, low resolution") if one.lr_paths else None
        found.append(_Input(one.name, stream(one.paths, one.name), lr, total, not is_video))
    return found


def _of_store(store: data.Store, degradation: str, max_frames: int | None) -> list[_Input]:
    def stream(entry: data.Entry) -> Callable[[], Iterator[Frame]]:
        return lambda: (np.array(frame) for frame in store.frames(entry))

    found = []
    for entry in store.entries:
        lr = None
        if degradation == GIVEN:
            if not entry.lr_file:
                raise UsageError(
                    f"{entry.name}: no low-resolution twin was given when it was prepared."
                )
            lr = stream(dataclasses.replace(entry, file=entry.lr_file))
        total = entry.frames if max_frames is None else min(entry.frames, max_frames)
        found.append(_Input(entry.name, stream(entry), lr, total, True))
    return found


def _decoded(paths: tuple[Path, ...], name: str, notes: list[str]) -> Iterator[Frame]:
    """The frames of a video or of pictures, one by one."""
    if paths[0].suffix.lower() not in video.IMAGE_SUFFIXES:
        reader = video.VideoReader(video.probe(paths[0]))
        for frame in reader:
            yield frame.pixels
            del frame
        if reader.report.lost:
            notes.append(f"{name}: {reader.report.lost} frames do not decode and are left out")
        return
    for path in paths:
        yield images.read_rgb(path)


def _of_one_size(frames: Iterable[Frame], name: str) -> Iterator[Frame]:
    first: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        first = first or frame.shape
        if frame.shape != first:
            raise InputError(
                f"{name}: frame {index} is {size(frame)}, those before it are "
                f"{first[1]}x{first[0]}."
            )
        yield frame
        del frame


def size(frame: Frame) -> str:
    """Width and height in words."""
    return f"{frame.shape[1]}x{frame.shape[0]}"


def deepened(frame: Frame) -> Frame:
    """The same colours in 16 bits."""
    return frame.astype(np.uint16) * np.uint16(257) if frame.dtype == np.uint8 else frame


def _counted(one: _Input, max_frames: int | None) -> _Input:
    """With its frames counted, where that takes decoding them."""
    if one.exact:
        return one
    count = sum(1 for _ in itertools.islice(one.hr(), max_frames))
    return dataclasses.replace(one, total=count, exact=True)


def _pairs(
    one: _Input, degradation: str, scale: float, max_frames: int | None, notes: list[str]
) -> Iterator[tuple[Frame, Frame]]:
    """lr and hr, frame by frame, each hr of the size that its lr becomes."""
    hr = _of_one_size(itertools.islice(one.hr(), max_frames), one.name)
    if one.lr is not None:
        lr = _of_one_size(itertools.islice(one.lr(), max_frames), f"{one.name}, low resolution")
        return _given(one.name, hr, lr, scale)
    if scale != int(scale):
        return (_reduced_by_part(frame, scale, degradation) for frame in hr)
    if degradation in STREAMED:
        return _reduced(hr, int(scale), degradation)
    return _reduced_in_stretches(one.name, hr, int(scale), degradation, notes)


def _given(
    name: str, hr_frames: Iterator[Frame], lr_frames: Iterator[Frame], scale: float
) -> Iterator[tuple[Frame, Frame]]:
    for index, (hr, lr) in enumerate(itertools.zip_longest(hr_frames, lr_frames)):
        if hr is None or lr is None:
            there, ended = ("low", "high") if hr is None else ("high", "low")
            raise InputError(
                f"{name}: frame {index} is there in {there} resolution only; the clip in {ended} "
                f"resolution ends after {index} frames."
            )
        high, wide = (ops.enlarged(side, scale) for side in lr.shape[:2])
        rest = hr.shape[0] - high, hr.shape[1] - wide
        if not all(0 <= pixels < scale for pixels in rest):
            raise InputError(
                f"{name}: frame {index} is {size(lr)} in low resolution, which by {scale:g} is "
                f"{wide}x{high}, but {size(hr)} in high resolution."
            )
        cut = hr[:high, :wide]
        yield (lr, cut) if lr.dtype == hr.dtype else (deepened(lr), deepened(cut))
        del hr, lr, cut


def _reduced(frames: Iterator[Frame], scale: int, name: str) -> Iterator[tuple[Frame, Frame]]:
    for frame in frames:
        hr, lr = degrade.degrade(frame[None], scale, name)
        yield lr[0], hr[0]
        del frame, hr, lr


def _reduced_by_part(frame: Frame, scale: float, name: str) -> tuple[Frame, Frame]:
    """By a factor such as 1.5: lr has denominator / numerator of the truth's pixels."""
    part = Fraction(scale).limit_denominator(64)
    whole, rest = part.numerator, part.denominator
    rows, columns = (side // whole for side in frame.shape[:2])
    if not (rows and columns):
        raise InputError(f"Frames of {size(frame)} are too small for a factor of {scale:g}.")
    hr = frame[: rows * whole, : columns * whole]
    if name == "area":
        return degrade.area_resize(hr[None], rows * rest, columns * rest)[0], hr
    return ops.resize(hr, rows * rest, columns * rest), hr


def _reduced_in_stretches(
    name: str, frames: Iterator[Frame], scale: int, degradation: str, notes: list[str]
) -> Iterator[tuple[Frame, Frame]]:
    """For degradations of whole clips; the first stretch is what a data store makes."""
    own = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    for number, first in enumerate(frames):  # of each stretch
        length = min(max(STRETCH_BYTES // first.nbytes, 8), STRETCH_FRAMES)
        clip = [_bytes(f) for f in itertools.chain([first], itertools.islice(frames, length - 1))]
        seed = (SEED, own, number) if number else (SEED, own)
        hr, lr = degrade.degrade(np.stack(clip), scale, degradation, seed)
        if number == 1:
            notes.append(f"{name}: {degradation} was drawn anew for each {length} frames")
        yield from zip(lr, hr, strict=True)
        del clip, hr, lr, first


def _bytes(frame: Frame) -> Frame:
    """In 8 bits, which the codecs of degradations take."""
    if frame.dtype == np.uint8:
        return frame
    return ((frame.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _measure(
    one: _Input,
    pairs: Iterator[tuple[Frame, Frame]],
    runners: list[_Runner],
    protocol: Protocol,
    temporal: bool,
    with_vmaf: bool,
    scale: float,
    tell: Tell | None,
    notes: list[str],
) -> tuple[ClipResult, list[Crop]]:
    tallies = [Tally(protocol, temporal) for _ in runners]
    still: list[int] = []  # frames of the truth that are of one colour
    warping: list[float] = []  # the truth's own
    showcase = _Showcase(one.name, [r.info.name for r in runners], scale)
    count = counted = 0
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((0, 0), (0, 0))

    def rows() -> Iterator[_Row]:
        nonlocal count
        for row in _side_by_side(pairs, runners):
            yield row
            count += 1
            del row
            if tell is not None:
                tell(one.name, count, one.total)

    with ExitStack() as stack:
        films: _Films | None = None
        if with_vmaf:
            films = _Films(Path(stack.enter_context(tempfile.TemporaryDirectory())), len(runners))
        before: Frame | None = None
        for row in _chosen(rows(), protocol, one.total):
            for tally, sr in zip(tallies, row.srs, strict=True):
                tally.add(row.index, sr, row.hr)
            if metrics.is_constant(row.hr):
                still.append(row.index)
            if before is not None and temporal and min(row.hr.shape[:2]) >= metrics.FLOW_SMALLEST:
                warping.append(metrics.warping_error(before, row.hr, before, row.hr))
            before = row.hr
            showcase.offer(row, [tally.scores[-1].psnr for tally in tallies])
            if films is not None:
                films.write(row)
            shapes = row.lr.shape, row.hr.shape
            counted += 1
            del row
        if not counted:
            raise InputError(
                f"{one.name}: protocol {protocol.name} counts none of its {count} frames."
            )
        vmafs = [None] * len(runners) if films is None else films.measure()
    if still:
        notes.append(
            f"{one.name}: {listed('frame', still)} of one colour in the truth itself, where PSNR "
            "says little"
        )
    for runner, tally in zip(runners, tallies, strict=True):
        notes += [f"{one.name}, {runner.info.name}: {note}" for note in tally.notes()]
    (lr_height, lr_width), (height, width) = (shape[:2] for shape in shapes)
    result = ClipResult(
        clip=one.name,
        width=width,
        height=height,
        lr_width=lr_width,
        lr_height=lr_height,
        frames=count,
        counted=counted,
        truth_warping_error=_mean_of_pairs(warping),
        results=tuple(
            tally.result(runner.info.name, runner.fps, vmaf)
            for runner, tally, vmaf in zip(runners, tallies, vmafs, strict=True)
        ),
    )
    return result, showcase.crops()


def _side_by_side(pairs: Iterator[tuple[Frame, Frame]], runners: list[_Runner]) -> Iterator[_Row]:
    """Every frame in all versions, in order; networks that look ahead make the truth wait."""
    truth: deque[Frame] = deque()

    def inputs() -> Iterator[Frame]:
        for lr, hr in pairs:
            truth.append(hr)
            yield lr
            del lr, hr

    shared = _Shared(inputs(), len(runners) + 1)
    made = [r.pictures(shared.reader(k), shared) for k, r in enumerate(runners)]
    for index, (lr, *srs) in enumerate(zip(shared.reader(len(runners)), *made, strict=True)):
        yield _Row(index, lr, truth.popleft(), tuple(srs))
        del lr, srs


def _chosen(rows: Iterator[_Row], protocol: Protocol, total: int | None) -> Iterator[_Row]:
    """The frames that count. The middle one is known beforehand: the clip was counted."""
    if not protocol.only_centre:
        return protocol.select(rows)
    assert total is not None
    return (row for row in rows if row.index == total // 2)


class _Films:
    """The counted frames of the truth and of each model in lossless files, for VMAF."""

    def __init__(self, folder: Path, models: int) -> None:
        self._paths = [folder / f"{name}.mkv" for name in ("truth", *range(models))]
        self._writers: list[video.VideoEncoder] = []
        self._count = 0

    def write(self, row: _Row) -> None:
        if not self._writers:
            self._writers = [_lossless(path, row.hr) for path in self._paths]
        for writer, pixels in zip(self._writers, (row.hr, *row.srs), strict=True):
            writer.write(video.Frame(pixels, self._count))
        self._count += 1

    def measure(self) -> list[dict[str, float] | None]:
        for writer in self._writers:
            writer.close()
        truth, *films = self._paths
        return [metrics.vmaf(film, truth) for film in films]


def _lossless(path: Path, frame: Frame) -> video.VideoEncoder:
    """An FFV1 file of RGB, 25 frames a second, for frames like this one."""
    settings = video.EncodeSettings(
        codec="ffv1",
        pix_fmt="bgr0" if frame.dtype == np.uint8 else "gbrp16le",
        width=frame.shape[1],
        height=frame.shape[0],
        crf=None,
        preset=None,
        color=video.ColorInfo(video.RGB, full_range=True),
        time_base=Fraction(1, 25),
    )
    return video.VideoEncoder(path, settings)


class _Showcase:
    """Keeps pieces of the best and the worst frame of a clip, by the gain of the first model."""

    def __init__(self, clip: str, models: list[str], scale: float) -> None:
        self._clip, self._models = clip, models
        self._factor = Fraction(scale).limit_denominator(64)
        self._best: Crop | None = None
        self._worst: Crop | None = None

    def offer(self, row: _Row, psnr: list[float]) -> None:
        gain = psnr[1] - psnr[0] if len(psnr) > 1 else psnr[0]
        if math.isnan(gain):
            return
        if self._best is None or gain > self._best.gain:
            self._best = self._cut(row, gain, "best")
        if self._worst is None or gain < self._worst.gain:
            self._worst = self._cut(row, gain, "worst")

    def crops(self) -> list[Crop]:
        """The worst first."""
        if self._best is None or self._worst is None:
            return []
        if self._best.frame == self._worst.frame:
            return [dataclasses.replace(self._worst, kind="only")]
        return [self._worst, self._best]

    def _cut(self, row: _Row, gain: float, kind: str) -> Crop:
        whole, rest = self._factor.numerator, self._factor.denominator
        # Pieces begin and end where lr pixels do.
        high, wide = (
            min(most // whole, side // whole) * whole
            for most, side in zip(CROP, row.hr.shape[:2], strict=True)
        )
        top, left = busiest(row.hr, max(high, 1), max(wide, 1), whole)
        lr = tuple(
            slice(at // whole * rest, (at + length) // whole * rest)
            for at, length in ((top, high), (left, wide))
        )
        here = slice(top, top + high), slice(left, left + wide)
        return Crop(
            clip=self._clip,
            frame=row.index,
            kind=kind,
            model=self._models[1] if len(self._models) > 1 else self._models[0],
            gain=gain,
            top=top,
            left=left,
            lr=row.lr[lr].copy(),  # a view would keep the whole frame
            truth=row.hr[here].copy(),
            pictures={
                name: sr[here].copy() for name, sr in zip(self._models, row.srs, strict=True)
            },
        )


def busiest(frame: Frame, height: int, width: int, step: int = 1) -> tuple[int, int]:
    """Top and left, multiples of `step`, of the piece of this size with the steepest slopes."""
    luma = ops.luma(frame)
    slopes = np.zeros((luma.shape[0] + 1, luma.shape[1] + 1))
    slopes[1:-1, 1:] += np.abs(np.diff(luma, axis=0))
    slopes[1:, 1:-1] += np.abs(np.diff(luma, axis=1))
    total = slopes.cumsum(axis=0).cumsum(axis=1)
    tops = np.arange(0, max(luma.shape[0] - height, 0) + 1, step)[:, None]
    lefts = np.arange(0, max(luma.shape[1] - width, 0) + 1, step)
    sums = total[tops + height, lefts + width] - total[tops, lefts + width]
    sums += total[tops, lefts] - total[tops + height, lefts]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(row) * step, int(column) * step


def versions() -> dict[str, str]:
    """What the numbers depend on: sharpreel, Python and the libraries that are installed."""
    found = {"sharpreel": sharpreel.__version__, "python": platform.python_version()}
    for part in PARTS:
        try:
            found[part] = importlib.metadata.version(part)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["system"] = platform.platform()
    found["processors"] = str(video.usable_cpus())
    return found


def _gpu_memory(engines: Iterable[str]) -> int | None:
    if "torch-cuda" not in engines:
        return None
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20)


# Written down --------------------------------------------------------------------------------

COLUMNS = ("psnr", "ssim", "qm", "tof", "warping_error", "flicker", "vmaf", "vmaf_neg", "fps")


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """One row for each clip and model, with all digits."""
    rows = [
        [
            *(clip.clip, result.model, evaluation.protocol, evaluation.degradation),
            *(f"{evaluation.scale:g}", clip.width, clip.height, clip.frames, clip.counted),
            *(_full(getattr(result, name)) for name in COLUMNS),
            _full(result.psnr - clip.of(BICUBIC).psnr),
            _full(clip.truth_warping_error),
        ]
        for clip in evaluation.clips
        for result in clip.results
    ]
    head = ["clip", "model", "protocol", "degradation", "scale", "width", "height", "frames"]
    _write_rows(path, [[*head, "counted", *COLUMNS, "gain_db", "truth_warping_error"], *rows])


def write_frames_csv(evaluation: Evaluation, path: Path) -> None:
    """One row for each frame that counts and model, with all digits."""
    rows = (
        [
            *(clip.clip, result.model, evaluation.protocol, score.frame),
            *(_full(value) for value in (score.psnr, score.ssim, score.qm)),
            int(score.constant),
        ]
        for clip in evaluation.clips
        for result in clip.results
        for score in result.frames
    )
    head = ["clip", "model", "protocol", "frame", "psnr", "ssim", "qm", "constant"]
    _write_rows(path, itertools.chain([head], rows))


def _full(value: float | None) -> str:
    return "" if value is None else repr(value)


def _write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as e:
        raise write_error(path, e) from e


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """For a table: "-" where nothing was measured."""
    if value is None:
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def summary(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The means over clips, a row for each model: heads and cells. What was not measured has no
    column."""
    kinds: list[tuple[str, str, int, float]] = [
        ("PSNR, dB", "psnr", 2, 1),
        ("SSIM", "ssim", 4, 1),
        ("QM", "qm", 3, 1),
        ("tOF, px", "tof", 3, 1),
        ("warping error, 1e-3", "warping_error", 3, 1e3),
        ("flicker, levels", "flicker", 2, 1),
        ("VMAF", "vmaf", 2, 1),
        ("VMAF-NEG", "vmaf_neg", 2, 1),
        ("frames a second", "fps", 1, 1),
    ]
    names = [model.name for model in evaluation.models]
    kinds = [k for k in kinds if any(evaluation.mean(name, k[1]) is not None for name in names)]
    heads = ["model", "gain, dB", "score", *(title for title, *_ in kinds), "peak memory, MiB"]
    rows = []
    for name in names:
        means = [(evaluation.mean(name, key), digits, by) for _, key, digits, by in kinds]
        plain = name == BICUBIC
        rows.append(
            [
                name,
                "" if plain else number(evaluation.gain(name), 2, sign=True),
                "" if plain else number(evaluation.score(name)),
                *(number(None if m is None else m * by, digits) for m, digits, by in means),
                number(evaluation.peak_memory_mb, 0),
            ]
        )
    return heads, rows


def per_clip(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """PSNR and SSIM of each clip and model, and the gain over bicubic: heads and cells."""
    names = [model.name for model in evaluation.models]
    heads = ["clip", "size", "frames"]
    for name in names:
        heads += [name] if name == BICUBIC else [name, f"gain of {name}"]
    rows = []
    for clip in evaluation.clips:
        frames = str(clip.frames)
        if clip.counted != clip.frames:
            frames = f"{clip.counted} of {clip.frames}"
        row = [clip.clip, f"{clip.width}x{clip.height}", frames]
        for result in clip.results:
            row.append(f"{number(result.psnr)} / {number(result.ssim, 4)}")
            if result.model != BICUBIC:
                row.append(number(result.psnr - clip.of(BICUBIC).psnr, 2, sign=True))
        rows.append(row)
    return heads, rows


def explained(evaluation: Evaluation) -> list[str]:
    """How the numbers were taken: sentences that belong beside the tables."""
    made = (
        "The low-resolution frames were given"
        if evaluation.degradation == GIVEN
        else f"Frames were reduced by {evaluation.degradation} "
        f"({degrade.DEGRADATIONS[evaluation.degradation].summary})"
    )
    lines = [
        f"Protocol {evaluation.protocol}: {evaluation.protocol_text}",
        f"{made} and enlarged {evaluation.scale:g} times.",
        "Means over a clip's frames, then over clips. Gain is PSNR above bicubic's; score the "
        "share of clips whose QM is above bicubic's. Frames count from 0.",
        "Frames a second are the network's alone; peak memory is the whole process's, with every "
        "model and measure in it.",
    ]
    own = _mean([clip.truth_warping_error for clip in evaluation.clips])
    if own is not None:
        lines.append(
            f"The truth itself has a warping error of {number(own * 1e3, 3)}e-3: less is softer, "
            "not better."
        )
    if evaluation.gpu_memory_mb is not None:
        lines.append(f"torch held at most {evaluation.gpu_memory_mb} MiB on the GPU.")
    return lines


def to_markdown(evaluation: Evaluation) -> str:
    """The means and the clips as Markdown tables, the protocol named under each."""
    parts = []
    for heads, rows in (summary(evaluation), per_clip(evaluation)):
        lines = [heads, ["---"] * len(heads), *rows]
        table = ["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines]
        parts.append("\n".join(table))
        parts.append(f"{evaluation.title}.")
    parts[-1] = f"{evaluation.title}. PSNR in dB / SSIM."
    parts.append("\n".join(f"- {line}" for line in explained(evaluation)))
    if evaluation.notes:
        parts.append("\n".join(["Notes:", "", *(f"- {note}" for note in evaluation.notes)]))
    return "\n\n".join(parts) + "\n"


# Against an earlier run ----------------------------------------------------------------------


def against(
    evaluation: Evaluation, baseline: Mapping[str, Any], tolerance_db: float = 0.02
) -> list[str]:
    """Where PSNR fell below an earlier run by more than the tolerance; empty when nowhere.

    Args:
        baseline: What `as_dict` gave, or the scores.json of a report.

    Raises:
        UsageError: The two cannot be compared: another protocol, degradation, factor, other clips
            or frames of them, or a model that the baseline does not have.
    """
    try:
        kind = {k: baseline[k] for k in ("protocol", "degradation", "scale")}
        settings = dict(baseline["settings"]["protocol"])
        before = {clip["clip"]: clip for clip in baseline["clips"]}
        counts = {name: (c["width"], c["height"], c["counted"]) for name, c in before.items()}
        levels = {
            (name, result["model"]): float(result["psnr"])
            for name, clip in before.items()
            for result in clip["results"]
        }
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(
            "The baseline is not the scores.json of an evaluation; make it with "
            "`sharpreel evaluate -o FOLDER`."
        ) from e
    for key, value in kind.items():
        now = getattr(evaluation, key)
        if value != now:
            raise UsageError(f"The baseline was taken with {key} {value}, this run with {now}.")
    if settings != plain(evaluation.settings["protocol"]):
        raise UsageError(
            f"The baseline was taken with another variant of protocol {evaluation.protocol}."
        )
    names = [clip.clip for clip in evaluation.clips]
    if sorted(names) != sorted(before):
        odd = sorted(set(names) ^ set(before))
        raise UsageError(
            f"The baseline has other clips: {len(before)} against {len(names)}; only one has "
            f"{', '.join(odd[:3])}."
        )
    worse = []
    for clip in evaluation.clips:
        if counts[clip.clip] != (clip.width, clip.height, clip.counted):
            wide, high, frames = counts[clip.clip]
            raise UsageError(
                f"{clip.clip}: the baseline has {frames} frames of {wide}x{high}, this run "
                f"{clip.counted} of {clip.width}x{clip.height}."
            )
        for result in clip.results:
            if (clip.clip, result.model) not in levels:
                raise UsageError(f"The baseline has no model {result.model}.")
            was = levels[clip.clip, result.model]
            if not result.psnr >= was - tolerance_db:  # NaN is worse than any number
                worse.append(
                    f"{clip.clip}, {result.model}: {result.psnr:.4f} dB, was {was:.4f} "
                    f"({result.psnr - was:+.4f}, tolerance {tolerance_db:g})"
                )
    return worse
