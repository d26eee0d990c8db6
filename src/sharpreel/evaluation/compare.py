"""Compare two videos of the same content: numbers, a wipe video, and a contact sheet.

    a ──────────┐                 ┌──> scores of a and of b          with a reference
    b ──────────┼── in step ──────┼──> wipe or side-by-side video    with a's times
    reference ──┘                 └──> contact sheet                 six frames spread over time

Frames are read one of each at a time, so that memory does not depend on length. What does not fit
together is reported with the frame and the sizes or times; `align` handles videos of which one
begins later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation.alignment import AlignedInputs, open_inputs, read_in_step
from sharpreel.evaluation.comparison_video import ComparisonWriter, Mode
from sharpreel.evaluation.contact_sheet import ContactSheet
from sharpreel.evaluation.metric_set import MetricSet
from sharpreel.evaluation.metrics.seams import Seams
from sharpreel.evaluation.pairs import in_16_bits
from sharpreel.evaluation.protocols import Protocol, to_protocol
from sharpreel.evaluation.results import ModelResult, plain
from sharpreel.evaluation.scores import ClipScores, score_frames
from sharpreel.media import images
from sharpreel.ops import Pixels

ProgressCallback = Callable[[int, int | None], None]  # frames done, frames in total where known


@dataclass(frozen=True)
class Comparison:
    """Results of `compare`, and the files that it wrote.

    Attributes:
        frames: Frames that were compared.
        offset: Frames by which b's content comes later than a's; 0 unless `align` was set.
        reference_offset: The same for the reference.
        psnr: Of b against a by the protocol, dB: how different they are, not how good.
        seam_time, seam_space: Of b against a, if seams were measured: 1 is not visible.
        a_scores, b_scores: Against the reference; None without one.
        reference_warping_error: Of the reference itself; see `temporal.warping_error`.
        video, sheet: The files.
    """

    a: str
    b: str
    reference: str | None
    protocol: str
    mode: Mode
    frames: int
    offset: int
    reference_offset: int
    psnr: float
    seam_time: float | None
    seam_space: float | None
    a_scores: ModelResult | None
    b_scores: ModelResult | None
    reference_warping_error: float | None
    video: Path
    sheet: Path
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; see `results.Evaluation.as_dict`."""
        content: dict[str, Any] = plain(self)
        return content


def compare(
    a: Path,
    b: Path,
    reference: Path | None = None,
    out: Path = Path("comparison.mp4"),
    *,
    mode: Mode = "wipe",
    align: bool = False,
    protocol: str | Protocol = "P1",
    temporal: bool = True,
    seams: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> Comparison:
    """Compare two videos of the same content and size.

    Args:
        reference: The ground truth, of the same size: both are measured against it.
        out: The comparison video, .mp4, with the times of a. The contact sheet is named after it:
            `<stem>.png`, six rows of a, b, their difference times four and, if there is one, the
            reference.
        mode: "wipe" shows a left of a slowly moving line and b right of it; "side-by-side" shows
            both completely. Odd sides grow by a pixel, which H.264 needs.
        align: Find how many frames later b (and the reference) begins than a, at most 30, and
            compare the frames that all have. Without it every frame must have its counterpart.
        protocol: A key of `protocols.PROTOCOLS`, or a variant of one.
        temporal: Also measure motion, which needs OpenCV and a reference.
        seams: Possible positions of seams; see `seams.Seams`. Compare a video that was processed
            in segments or tiles with one that was processed as a whole.
        on_progress: Called after each frame.

    Raises:
        InputError: A file is not a video; or lengths, sizes, times or the order of frames differ.
        UsageError: No such protocol or mode, or `out` cannot be this file.
    """
    positions = Seams.parse(seams) if seams else None
    metrics = MetricSet(to_protocol(protocol), temporal, seams=positions)
    paths = [path for path in (a, b, reference) if path is not None]
    _validate_output(out, mode, paths)
    notes: list[str] = []
    inputs = open_inputs(paths, align, notes)
    run = _ComparisonRun(inputs, metrics, notes)
    try:
        frames = run.write_video(ComparisonWriter(out, inputs.infos[0], mode), on_progress)
    except ValueError as e:
        raise UsageError(f"{a}: {e}") from e
    sheet = out.with_suffix(".png")
    images.write_png(sheet, run.sheet.image())
    return run.result(mode, frames, out, sheet)


def _validate_output(out: Path, mode: str, inputs: Sequence[Path]) -> None:
    if mode not in ("wipe", "side-by-side"):
        raise UsageError(f"mode={mode!r} is not known; choose wipe or side-by-side.")
    if out.suffix.lower() != ".mp4":
        raise UsageError(f"{out}: the comparison is an MP4; choose a name that ends in .mp4.")
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs):
        raise UsageError(f"{out} is one of the videos to compare; choose another name.")


@dataclass(frozen=True)
class _ComparedFrame:
    """One frame of each video, of one type; see `scores.ScorableFrame`.

    Attributes:
        hr: The reference; a, if there is none.
    """

    index: int
    a: Pixels
    b: Pixels
    hr: Pixels

    @property
    def srs(self) -> tuple[Pixels, Pixels]:
        return self.a, self.b


class _ComparisonRun:
    """Reads the videos once: scores, contact sheet and comparison video."""

    def __init__(self, inputs: AlignedInputs, metrics: MetricSet, notes: list[str]) -> None:
        self._inputs, self._protocol, self._notes = inputs, metrics.protocol, notes
        self._difference = ClipScores(replace(metrics, temporal=False), versions=1)
        self._quality: ClipScores | None = None
        if len(inputs.paths) == 3:
            self._quality = ClipScores(metrics, versions=2)
        self.sheet = ContactSheet()

    def write_video(self, writer: ComparisonWriter, on_progress: ProgressCallback | None) -> int:
        """Read, score and write all frames; the number of frames."""
        protocol, count = self._protocol, 0

        def frames() -> Iterator[_ComparedFrame]:
            nonlocal count
            for row in read_in_step(self._inputs, self._notes):
                pixels = _of_one_type([frame.pixels for frame in row])
                writer.write(row[0], pixels[0], pixels[1])
                self.sheet.offer(count, pixels)
                reference = pixels[2] if len(pixels) == 3 else pixels[0]
                yield _ComparedFrame(count, pixels[0], pixels[1], reference)
                count += 1
                del row, pixels, reference
                if on_progress is not None:
                    on_progress(count, self._inputs.num_frames)

        try:
            if protocol.only_centre:
                self._notes.append(
                    f"every frame counts, not only the middle one as in {protocol.name}"
                )
            self._score(replace(protocol, only_centre=False).select(frames()))
            if not self._difference.count:
                raise InputError(
                    f"{self._inputs.paths[0]}: protocol {protocol.name} counts none of the {count} "
                    "frames."
                )
            writer.close()
        except BaseException:
            writer.abandon()
            raise
        return count

    def _score(self, frames: Iterable[_ComparedFrame]) -> None:
        if self._quality is not None:
            frames = score_frames(frames, self._quality)
        for frame in frames:
            self._difference.add(frame.index, frame.a, [frame.b])
            del frame

    def result(self, mode: Mode, frames: int, video: Path, sheet: Path) -> Comparison:
        paths, quality, notes = self._inputs.paths, self._quality, list(self._notes)
        difference = self._difference.versions[0].result("", math.nan)
        scores: list[ModelResult | None] = [None, None]
        if quality is not None:
            for k, (path, version) in enumerate(zip(paths, quality.versions, strict=False)):
                notes += [f"{path}: {note}" for note in version.notes()]
                scores[k] = version.result(str(path), math.nan)
        return Comparison(
            a=str(paths[0]),
            b=str(paths[1]),
            reference=None if quality is None else str(paths[2]),
            protocol=self._protocol.name,
            mode=mode,
            frames=frames,
            offset=self._inputs.offsets[1],
            reference_offset=0 if quality is None else self._inputs.offsets[2],
            psnr=difference.psnr,
            seam_time=difference.seam_time,
            seam_space=difference.seam_space,
            a_scores=scores[0],
            b_scores=scores[1],
            reference_warping_error=None if quality is None else quality.reference_warping_error,
            video=video,
            sheet=sheet,
            notes=tuple(notes),
        )


def _of_one_type(frames: list[Pixels]) -> list[Pixels]:
    if len({frame.dtype for frame in frames}) == 1:
        return frames
    return [in_16_bits(frame) for frame in frames]
