"""Measure how much models gain over bicubic on clips with a known ground truth.

A clip is downscaled and then upscaled by `upscale_frames`, the function that users call, so the
numbers describe the product and not a training graph. `benchmark` takes any number of clips of any
length and several models at once; bicubic always comes first. See `validation` for clips in memory.

    frames ──degrade──> lr ─┬─> bicubic ─┬─> ScoreAccumulator   the reference waits for the slowest;
             reference ─────┼─> model A ─┼─> ScoreAccumulator   no frame lives longer, so a long
                            └─> model B ─┴─> ScoreAccumulator   video needs no more memory
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpreel.data import testsets
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation import pairs
from sharpreel.evaluation.crops import CropSelector
from sharpreel.evaluation.environment import gpu_memory_mb, versions
from sharpreel.evaluation.metric_set import MetricSet, open_lpips, open_niqe
from sharpreel.evaluation.metrics.seams import Seams
from sharpreel.evaluation.pairs import GIVEN, PairedClip, PairSource
from sharpreel.evaluation.protocols import Protocol, to_protocol
from sharpreel.evaluation.results import ClipResult, Crop, Evaluation, FrameScore
from sharpreel.evaluation.runners import ModelRow, ModelRunner, model_runners, side_by_side
from sharpreel.evaluation.scores import ClipScores, listed, score_frames
from sharpreel.evaluation.vmaf_clips import VmafClips
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.system.resources import peak_memory_mb

# name of the clip, frames done, frames in total where known
ProgressCallback = Callable[[str, int, int | None], None]
# name of the clip, scores of its last frame by model
FrameCallback = Callable[[str, Mapping[str, FrameScore]], None]


@dataclass(frozen=True)
class BenchmarkSettings:
    """How a benchmark downscales, upscales and measures.

    Attributes:
        degradation: A key of `degrade.DEGRADATIONS`, or "given": from a store or `lr_folder`.
        scale: By default the first model's.
        protocol: A key of `protocols.PROTOCOLS`, or a variant of one; by default the published
            set's, else P1.
        list_file: Names of the clips to take; see `clips.find_clips`.
        lr_folder: Low-resolution frames with the same layout as the source, used in place of
            degraded ones.
        max_frames: At most N frames of each clip.
        temporal: Measure tOF, warping error and flicker, which needs OpenCV and takes most of the
            time of small networks.
        vmaf: Also measure VMAF and VMAF-NEG, through lossless files in the folder for temporary
            files: about two bytes for each pixel, frame and model.
        lpips: Files of trunk and heads; see `lpips.Lpips`. Also measures LPIPS, which needs torch.
        niqe: A model that `Niqe.save` wrote, or a folder of sharp images to fit one on: also
            measures NIQE. Images similar to the reference are best.
        seams: Possible positions of seams; see `seams.Seams`.
        device, engine, precision: See `choose.choose_engine`.
    """

    degradation: str = "bi"
    scale: float | None = None
    protocol: str | Protocol | None = None
    list_file: Path | None = None
    lr_folder: Path | None = None
    max_frames: int | None = None
    temporal: bool = True
    vmaf: bool = False
    lpips: tuple[Path, Path] | None = None
    niqe: Path | None = None
    seams: str | None = None
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"


DEFAULTS = BenchmarkSettings()


def benchmark(
    models: Sequence[str | Path | Model],
    source: Path | str,
    settings: BenchmarkSettings = DEFAULTS,
    *,
    on_progress: ProgressCallback | None = None,
    on_frame: FrameCallback | None = None,
) -> Evaluation:
    """Measure models, side by side and with bicubic, on high-resolution clips.

    Frames stream: memory depends on the size of frames and not on their number. The degradations
    bi, bd, bd-duf, bd-tecogan and area work frame by frame; the others, which draw parameters for a
    clip or encode it, work in chunks of at most 100 frames, which the notes mention. Frames are
    cropped at the bottom and right to a multiple of the scale.

    Args:
        models: Names of `sharpreel models` or model files, all of one scale. The best and worst
            frames of the first one are kept.
        source: A folder of clips as `clips.find_clips` finds them, a data store, one video, or, if
            no such path exists, a published set of `testsets.TEST_SETS`.
        on_progress: Called after each frame.
        on_frame: Called for each counted frame with its scores.

    Raises:
        InputError: A clip cannot be read; its low-resolution version has another number of frames,
            or another size.
        UsageError: No such model, degradation or protocol, or they do not go together.
    """
    began = time.perf_counter()
    pair_source, protocol = _resolve(source, settings)
    runners, scale = model_runners(
        models, settings.scale, settings.device, settings.engine, settings.precision
    )
    pairs.validate_degradation(pair_source.degradation, scale)
    niqe, niqe_source = open_niqe(settings.niqe) if settings.niqe else (None, None)
    metrics = MetricSet(
        protocol=protocol,
        temporal=settings.temporal,
        lpips=open_lpips(*settings.lpips, settings.device) if settings.lpips else None,
        niqe=niqe,
        seams=Seams.parse(settings.seams) if settings.seams else None,
    )
    run = _BenchmarkRun(runners, metrics, scale, pair_source, settings.vmaf, on_progress, on_frame)
    for clip in pairs.find_pairs(pair_source, run.notes):
        run.add(clip)
    return Evaluation(
        protocol=protocol.name,
        protocol_text=protocol.summary,
        degradation=pair_source.degradation,
        scale=scale,
        models=tuple(runner.info for runner in runners),
        clips=tuple(run.results),
        notes=tuple(run.notes),
        settings=_recorded(source, settings, pair_source, metrics, niqe_source),
        versions=versions(),
        seconds=time.perf_counter() - began,
        peak_memory_mb=peak_memory_mb(),
        gpu_memory_mb=gpu_memory_mb(runner.info.engine for runner in runners),
        crops=tuple(run.crops),
    )


def _resolve(source: Path | str, settings: BenchmarkSettings) -> tuple[PairSource, Protocol]:
    """The clips to read and the protocol; a published set brings its own clips and protocol."""
    path, names = Path(source), tuple[str, ...]()
    list_file, protocol = settings.list_file, settings.protocol
    published = testsets.find(str(source))
    if published is not None:
        path, names = published.folder, published.clips
        list_file = list_file or published.list_file
        protocol = protocol or published.protocol
    resolved = to_protocol(protocol or "P1")
    degradation, lr_folder = settings.degradation, settings.lr_folder
    if lr_folder is not None:
        if degradation not in ("bi", GIVEN):
            raise UsageError(
                f"degradation={degradation!r} cannot be combined with lr_folder={lr_folder}, which "
                "gives the low-resolution frames: remove one of them."
            )
        degradation = GIVEN
    pair_source = PairSource(path, list_file, lr_folder, degradation, settings.max_frames, names)
    return pair_source, resolved


def _recorded(
    source: Path | str,
    settings: BenchmarkSettings,
    pair_source: PairSource,
    metrics: MetricSet,
    niqe_source: str | None,
) -> dict[str, Any]:
    """The settings as `Evaluation.settings` and scores.json keep them."""
    list_file, lr_folder = pair_source.list_file, pair_source.lr_folder
    return {
        "source": str(source),
        "folder": str(pair_source.path),
        "list_file": None if list_file is None else str(list_file),
        "lr_folder": None if lr_folder is None else str(lr_folder),
        "max_frames": settings.max_frames,
        "temporal": settings.temporal,
        "vmaf": settings.vmaf,
        "lpips": None if metrics.lpips is None else metrics.lpips.about,
        "niqe": niqe_source,
        "seams": settings.seams,
        "device": settings.device,
        "engine": settings.engine,
        "precision": settings.precision,
        "seed": pairs.SEED,
        "protocol": dataclasses.asdict(metrics.protocol),
    }


class _BenchmarkRun:
    """Measures clip after clip with the same models and metrics.

    Attributes:
        results, crops, notes: Of the clips so far.
    """

    def __init__(
        self,
        runners: list[ModelRunner],
        metrics: MetricSet,
        scale: float,
        source: PairSource,
        vmaf: bool,
        on_progress: ProgressCallback | None,
        on_frame: FrameCallback | None,
    ) -> None:
        self._runners, self._metrics, self._scale = runners, metrics, scale
        self._source, self._vmaf = source, vmaf
        self._on_progress, self._on_frame = on_progress, on_frame
        self.results: list[ClipResult] = []
        self.crops: list[Crop] = []
        self.notes: list[str] = []

    def add(self, clip: PairedClip) -> None:
        """Measure one clip.

        Raises:
            InputError: It cannot be read, or the protocol counts none of its frames.
            UsageError: Its frames are too small for a metric.
        """
        if self._metrics.protocol.only_centre:
            clip = pairs.with_exact_total(clip, self._source.max_frames)
        try:
            self._measure(clip)
        except ValueError as e:
            raise UsageError(f"{clip.name}: {e}") from e

    def _measure(self, clip: PairedClip) -> None:
        protocol = self._metrics.protocol
        names = [runner.info.name for runner in self._runners]
        scores = ClipScores(self._metrics, len(self._runners))
        selector = CropSelector(clip.name, names, self._scale)
        sizes: dict[str, int] = {}
        count = 0

        def rows() -> Iterator[ModelRow]:
            nonlocal count
            frame_pairs = pairs.read_pairs(clip, self._source, self._scale, self.notes)
            for row in side_by_side(frame_pairs, self._runners):
                yield row
                count += 1
                del row
                if self._on_progress is not None:
                    self._on_progress(clip.name, count, clip.total)

        with ExitStack() as stack:
            vmaf_clips: VmafClips | None = None
            if self._vmaf:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                vmaf_clips = VmafClips(Path(folder), len(self._runners))
            for row in score_frames(_counted_rows(rows(), protocol, clip.total), scores):
                if self._on_frame is not None:
                    self._on_frame(clip.name, dict(zip(names, scores.last, strict=True)))
                selector.offer(row, [score.psnr for score in scores.last])
                if vmaf_clips is not None:
                    vmaf_clips.write(row.hr, row.srs)
                sizes = _sizes(row.lr, row.hr)
                del row
            if not scores.count:
                raise InputError(
                    f"{clip.name}: protocol {protocol.name} counts none of its {count} frames."
                )
            vmafs = [None] * len(names) if vmaf_clips is None else vmaf_clips.measure()
        self._note(clip.name, scores)
        self.crops += selector.crops()
        self.results.append(
            ClipResult(
                clip=clip.name,
                frames=count,
                counted=scores.count,
                truth_warping_error=scores.reference_warping_error,
                truth_niqe=scores.reference_niqe,
                results=tuple(
                    version.result(runner.info.name, runner.fps, vmaf)
                    for runner, version, vmaf in zip(
                        self._runners, scores.versions, vmafs, strict=True
                    )
                ),
                **sizes,
            )
        )

    def _note(self, clip: str, scores: ClipScores) -> None:
        if scores.constant:
            self.notes.append(
                f"{clip}: {listed('frame', scores.constant)} of one colour in the reference "
                "itself, where PSNR means little"
            )
        for runner, version in zip(self._runners, scores.versions, strict=True):
            self.notes += [f"{clip}, {runner.info.name}: {note}" for note in version.notes()]


def _sizes(lr: Pixels, hr: Pixels) -> dict[str, int]:
    return {
        "width": hr.shape[1],
        "height": hr.shape[0],
        "lr_width": lr.shape[1],
        "lr_height": lr.shape[0],
    }


def _counted_rows(
    rows: Iterator[ModelRow], protocol: Protocol, total: int | None
) -> Iterator[ModelRow]:
    """The frames that the protocol counts. The middle one is known, since the clip was counted."""
    if not protocol.only_centre:
        return protocol.select(rows)
    assert total is not None
    return (row for row in rows if row.index == total // 2)
