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
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from sharpreel.data import testsets
from sharpreel.data.store import Clip
from sharpreel.engines.base import Engine
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation import pairs as pairs_module
from sharpreel.evaluation.metrics.fidelity import is_constant, psnr_y
from sharpreel.evaluation.metrics.seams import Seams
from sharpreel.evaluation.pairs import GIVEN, PairedClip
from sharpreel.evaluation.protocols import Protocol
from sharpreel.evaluation.results import ClipResult, Crop, Evaluation, Measure, Score, mean_scores
from sharpreel.evaluation.runners import (
    ModelRow,
    ModelRunner,
    bicubic_frames,
    gpu_memory_mb,
    model_runners,
    niqe_model,
    open_lpips,
    upscaled_frames,
    versions,
)
from sharpreel.evaluation.scores import (
    FrameScore,
    MetricSet,
    ReferenceFrame,
    ScoreAccumulator,
    listed,
    mean_of_numbers,
    to_protocol,
)
from sharpreel.evaluation.showcase import Showcase, VmafClips, chosen_frames, side_by_side
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.system.resources import peak_memory_mb

Tell = Callable[[str, int, int | None], None]  # clip, frames done, frames in all where known
# clip, and the scores of the frame that was measured last, by model
Hear = Callable[[str, Mapping[str, FrameScore]], None]


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
    baseline = bicubic_frames(engine.scale)
    measures = {"psnr": psnr_y, **(more or {})}
    for clip in clips:
        own = mean_scores(upscaled_frames(clip, engine), clip, measures)
        plain = mean_scores(upscaled_frames(clip, baseline), clip, measures)
        both = {name: (own[name], plain[name]) for name in more or {}}
        yield Score(clip.name, own["psnr"], plain["psnr"], both)


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
        source: A folder of clips as `clips.find_clips` finds them, a data store, one video, or,
            where nothing of this name is there, a published set in `testsets.TEST_SETS`.
        degradation: A key of `degrade.DEGRADATIONS`, or "given": as a store or `lr_folder` has it.
        scale: Factor; by default the first model's.
        protocol: A key of `protocols.PROTOCOLS`, or a variant of one; by default the published
            set's, else P1.
        list_file: Names of the clips to take; see `clips.find_clips`.
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
        seams: Where joins may show; see `seams.Seams`.
        device, engine, precision: See `choose.choose_engine`.
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
    runners, factor = model_runners(models, scale, device, engine, precision)
    pairs_module.validate_degradation(degradation, factor)
    judge, known = niqe_model(niqe) if niqe else (None, None)
    measures = MetricSet(
        protocol=rule,
        temporal=temporal,
        lpips=open_lpips(*lpips, device) if lpips else None,
        niqe=judge,
        seams=Seams.parse(seams) if seams else None,
    )
    notes: list[str] = []
    found = pairs_module.find_pairs(
        folder, list_file, lr_folder, degradation, max_frames, notes, names
    )
    clips: list[ClipResult] = []
    crops: list[Crop] = []
    for each in found:
        one = pairs_module.counted(each, max_frames) if rule.only_centre else each
        pairs = pairs_module.pairs(one, degradation, factor, max_frames, notes)
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
            "seed": pairs_module.SEED,
            "protocol": {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)},
        },
        versions=versions(),
        seconds=time.perf_counter() - began,
        peak_memory_mb=peak_memory_mb(),
        gpu_memory_mb=gpu_memory_mb(runner.info.engine for runner in runners),
        crops=tuple(crops),
    )


def _measure(
    one: PairedClip,
    pairs: Iterator[tuple[Pixels, Pixels]],
    runners: list[ModelRunner],
    measures: MetricSet,
    with_vmaf: bool,
    scale: float,
    tell: Tell | None,
    hear: Hear | None,
    notes: list[str],
) -> tuple[ClipResult, list[Crop]]:
    protocol = measures.protocol
    tallies = [ScoreAccumulator(measures) for _ in runners]
    still: list[int] = []  # frames of the truth that are of one colour
    own: list[tuple[float | None, float | None]] = []  # the truth's warping error and NIQE
    showcase = Showcase(one.name, [r.info.name for r in runners], scale)
    count = counted = 0
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((0, 0), (0, 0))

    def rows() -> Iterator[ModelRow]:
        nonlocal count
        for row in side_by_side(pairs, runners):
            yield row
            count += 1
            del row
            if tell is not None:
                tell(one.name, count, one.total)

    with ExitStack() as stack:
        films: VmafClips | None = None
        if with_vmaf:
            films = VmafClips(
                Path(stack.enter_context(tempfile.TemporaryDirectory())), len(runners)
            )
        before: Pixels | None = None
        for row in chosen_frames(rows(), protocol, one.total):
            truth = ReferenceFrame(measures, row.index, row.hr, before)
            for tally, sr in zip(tallies, row.srs, strict=True):
                tally.add(sr, truth)
            if hear is not None:
                hear(
                    one.name,
                    {r.info.name: t.scores[-1] for r, t in zip(runners, tallies, strict=True)},
                )
            own.append((truth.warping_error(), truth.niqe()))
            if is_constant(row.hr):
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
