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

import dataclasses
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
from typing import TYPE_CHECKING, Any

import numpy as np

import sharpreel
from sharpreel import fetch, images, inputs, memory, metrics, ops, testsets, video
from sharpreel.data import Clip
from sharpreel.engine import Engine, OpenVinoEngine, choose_engine
from sharpreel.errors import InputError, MissingExtra, UsageError
from sharpreel.inputs import GIVEN, Input
from sharpreel.metrics import Niqe, Protocol, Seams
from sharpreel.ops import Frame
from sharpreel.tally import (
    FrameScore,
    Measures,
    ModelResult,
    Tally,
    Truth,
    listed,
    mean,
    mean_of_numbers,
    plain,
    to_protocol,
)
from sharpreel.upscale import upscale_frames
from sharpreel.weights import Model, available_scales, load_model

if TYPE_CHECKING:
    from sharpreel.lpips import Lpips

PROTOCOL = "P1: PSNR on Y (BT.601 studio, not rounded), BI, no border crop, all frames"
BICUBIC = "bicubic"
CROP = (120, 160)  # height and width of the pieces that are kept to be looked at
PARTS = ("numpy", "av", "openvino", "torch", "opencv-python-headless", "imageio-ffmpeg")

Tell = Callable[[str, int, int | None], None]  # clip, frames done, frames in all where known
Measure = Callable[[Frame, Frame], float]  # of one frame: sr, hr
# clip, and the scores of the frame that was measured last, by model
Hear = Callable[[str, Mapping[str, FrameScore]], None]


# Clips in memory -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """One clip's mean PSNR on Y over its frames, in dB, and the same for bicubic.

    `more` has other measures by name: the engine's mean and bicubic's.
    """

    clip: str
    psnr: float
    bicubic: float
    more: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        return self.psnr - self.bicubic


def evaluate(engine: Engine, clips: Iterable[Clip]) -> list[Score]:
    """Score an engine on clips; each clip begins with an empty state."""
    return list(scores(engine, clips))


def scores(
    engine: Engine, clips: Iterable[Clip], more: Mapping[str, Measure] | None = None
) -> Iterator[Score]:
    """As `evaluate`, clip by clip as they are done.

    Args:
        more: Measures of one frame, (sr, hr) -> number, that are taken besides.
    """
    baseline = _bicubic(engine.scale)
    measures = {"psnr": metrics.psnr_y, **(more or {})}
    for clip in clips:
        own = _means(_enlarged(clip, engine), clip, measures)
        plain = _means(_enlarged(clip, baseline), clip, measures)
        both = {name: (own[name], plain[name]) for name in more or {}}
        yield Score(clip.name, own["psnr"], plain["psnr"], both)


def _bicubic(scale: float) -> Engine | None:
    """The bundled bicubic; None by a factor that it is not there for."""
    bundled = scale in available_scales(BICUBIC)
    return OpenVinoEngine(load_model(BICUBIC, scale)) if bundled else None


def _enlarged(clip: Clip, engine: Engine | None) -> Iterator[Frame]:
    """By an engine; None: by bicubic, by a factor that no bundled network has."""
    if engine is None:
        return (ops.resize(frame, *clip.hr.shape[1:3]) for frame in clip.lr)
    engine.reset()
    return upscale_frames(clip.lr, engine=engine)


def _means(sr: Iterator[Frame], clip: Clip, measures: Mapping[str, Measure]) -> dict[str, float]:
    found = [
        [measure(made, truth) for measure in measures.values()]
        for made, truth in zip(sr, clip.hr, strict=True)
    ]
    return dict(zip(measures, map(float, np.mean(found, axis=0)), strict=True))


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
    truth_niqe: float | None
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
        return mean(found)

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
    protocol: str | Protocol | None = None,
    list_file: Path | None = None,
    lr_folder: Path | None = None,
    max_frames: int | None = None,
    temporal: bool = True,
    with_vmaf: bool = False,
    lpips: tuple[Path, Path] | None = None,
    niqe: Path | None = None,
    seams: str | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    tell: Tell | None = None,
    hear: Hear | None = None,
) -> Evaluation:
    """Measure models, side by side and with bicubic, on clips in high resolution.

    Frames stream: memory depends on the size of frames and not on their number. The degradations
    bi, bd, bd-duf, bd-tecogan and area are made frame by frame; the others, which draw something
    for a whole clip or code it, in stretches of at most 100 frames, each drawn anew, which the
    notes say. Sizes are cut to what the factor divides, at the bottom and the right.

    Args:
        models: Names of `sharpreel models` or model files, all of one factor. The first is the
            one whose best and worst frames are kept.
        source: A folder of clips as `data.find_clips` finds them, a data store, one video, or,
            where nothing of this name is there, a published set in `testsets.TEST_SETS`.
        degradation: A key of `degrade.DEGRADATIONS`, or "given": as a store or `lr_folder` has it.
        scale: Factor; by default the first model's.
        protocol: A key of `metrics.PROTOCOLS`, or a variant of one; by default the published
            set's, else P1.
        list_file: Names of the clips to take; see `data.find_clips`.
        lr_folder: Frames in low resolution, laid out as the source is, to be taken in the place
            of reduced ones.
        max_frames: Of each clip, at most so many.
        temporal: Measure tOF, warping error and flicker, which needs OpenCV and takes most of the
            time of small networks.
        with_vmaf: Measure VMAF and VMAF-NEG, too, through lossless files in the folder for
            temporary ones: about two bytes for each pixel, frame and model.
        lpips: Files of trunk and heads; see `lpips.Lpips`. Measures LPIPS, too, which needs torch.
        niqe: A model that `Niqe.save` wrote, or a folder of sharp pictures to fit one on: measures
            NIQE, too. Pictures of the truth's own kind make good ones.
        seams: Where joins may show; see `metrics.Seams`.
        device, engine, precision: See `engine.choose_engine`.
        tell: Called for each frame with the clip's name, the frames done and, where that is
            known, the frames in all.
        hear: Called for each frame that counts with its scores.

    Raises:
        InputError: A clip cannot be read; its twin has other frames, or of another size.
        UsageError: No such model, degradation or protocol, or they do not go together.
    """
    began = time.perf_counter()
    folder, names = Path(source), tuple[str, ...]()
    published = testsets.find(str(source))
    if published is not None:
        folder, names = published.folder, published.clips
        list_file = list_file or published.list_file
        protocol = protocol or published.protocol
    rule = to_protocol(protocol or "P1")
    if lr_folder is not None:
        if degradation not in ("bi", GIVEN):
            raise UsageError(
                f"The low-resolution frames are given by {lr_folder}: leave {degradation!r} out."
            )
        degradation = GIVEN
    runners, factor = _runners(models, scale, device, engine, precision)
    inputs.check_degradation(degradation, factor)
    judge, known = _model_of_niqe(niqe) if niqe else (None, None)
    measures = Measures(
        protocol=rule,
        temporal=temporal,
        lpips=_lpips(*lpips, device) if lpips else None,
        niqe=judge,
        seams=Seams.parse(seams) if seams else None,
    )
    notes: list[str] = []
    found = inputs.find_inputs(folder, list_file, lr_folder, degradation, max_frames, notes, names)
    clips: list[ClipResult] = []
    crops: list[Crop] = []
    for each in found:
        one = inputs.counted(each, max_frames) if rule.only_centre else each
        pairs = inputs.pairs(one, degradation, factor, max_frames, notes)
        try:
            result, kept = _measure(
                one, pairs, runners, measures, with_vmaf, factor, tell, hear, notes
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
            "folder": str(folder),
            "list_file": None if list_file is None else str(list_file),
            "lr_folder": None if lr_folder is None else str(lr_folder),
            "max_frames": max_frames,
            "temporal": temporal,
            "vmaf": with_vmaf,
            "lpips": None if measures.lpips is None else measures.lpips.about,
            "niqe": known,
            "seams": seams,
            "device": device,
            "engine": engine,
            "precision": precision,
            "seed": inputs.SEED,
            "protocol": {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)},
        },
        versions=versions(),
        seconds=time.perf_counter() - began,
        peak_memory_mb=memory.peak_memory_mb(),
        gpu_memory_mb=_gpu_memory(runner.info.engine for runner in runners),
        crops=tuple(crops),
    )


def _lpips(trunk: Path, heads: Path, device: str) -> Lpips:
    try:
        import torch

        from sharpreel.lpips import Lpips
    except ImportError as e:
        raise MissingExtra("LPIPS", "torch") from e
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return Lpips(trunk, heads, "cuda" if on_gpu else "cpu")


def _model_of_niqe(path: Path) -> tuple[Niqe, str]:
    """The model in a file or of a folder's pictures, and what it is called in tables."""
    if not path.is_dir():
        return Niqe.load(path), f"{path}, SHA-256 {fetch.sha256_of(path)[:8]}"
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in video.IMAGE_SUFFIXES)
    try:
        return Niqe.fit(map(images.read_rgb, files)), f"{path}, fitted on its {len(files)} pictures"
    except ValueError as e:
        raise UsageError(f"{path}: {e}") from e


def _runners(
    models: Sequence[str | Path | Model],
    scale: float | None,
    device: str,
    engine: str,
    precision: str,
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
        chosen = choose_engine(model, device, engine, precision=precision)
        info = ModelInfo(title, asked, chosen.name, model.digest(chosen.name))
        runners.append(_Runner(info, chosen, factor))
    return runners, factor


def _measure(
    one: Input,
    pairs: Iterator[tuple[Frame, Frame]],
    runners: list[_Runner],
    measures: Measures,
    with_vmaf: bool,
    scale: float,
    tell: Tell | None,
    hear: Hear | None,
    notes: list[str],
) -> tuple[ClipResult, list[Crop]]:
    protocol = measures.protocol
    tallies = [Tally(measures) for _ in runners]
    still: list[int] = []  # frames of the truth that are of one colour
    own: list[tuple[float | None, float | None]] = []  # the truth's warping error and NIQE
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
            truth = Truth(measures, row.index, row.hr, before)
            for tally, sr in zip(tallies, row.srs, strict=True):
                tally.add(sr, truth)
            if hear is not None:
                hear(
                    one.name,
                    {r.info.name: t.scores[-1] for r, t in zip(runners, tallies, strict=True)},
                )
            own.append((truth.warping_error(), truth.niqe()))
            if metrics.is_constant(row.hr):
                still.append(row.index)
            before = row.hr
            showcase.offer(row, [tally.scores[-1].psnr for tally in tallies])
            if films is not None:
                films.write(row)
            shapes = row.lr.shape, row.hr.shape
            counted += 1
            del row, truth
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
        truth_warping_error=mean_of_numbers([warping for warping, _ in own if warping is not None]),
        truth_niqe=mean_of_numbers([niqe for _, niqe in own if niqe is not None]),
        results=tuple(
            tally.result(runner.info.name, runner.fps, vmaf)
            for runner, tally, vmaf in zip(runners, tallies, vmafs, strict=True)
        ),
    )
    return result, showcase.crops()


def _side_by_side(pairs: Iterator[tuple[Frame, Frame]], runners: list[_Runner]) -> Iterator[_Row]:
    """Every frame in all versions, in order; networks that look ahead make the truth wait."""
    truth: deque[Frame] = deque()

    def reduced() -> Iterator[Frame]:
        for lr, hr in pairs:
            truth.append(hr)
            yield lr
            del lr, hr

    shared = _Shared(reduced(), len(runners) + 1)
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
    if not any(name.startswith("torch-cuda") for name in engines):
        return None
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20)
