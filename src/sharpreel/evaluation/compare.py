"""Two videos side by side: in numbers where the truth is known, and to look at in any case.

    a ──────────┐                 ┌──> Tally of a, Tally of b        with a reference
    b ──────────┼── in step ──────┼──> wipe or side-by-side video    a's own times
    reference ──┘                 └──> contact sheet                 six frames spread over time

Frames are taken one of each at a time, so that memory does not depend on length. What does not fit
together is said with the frame and the sizes or times; videos of which one begins later are put in
step by `align`.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.data.degrade.resample import area_resize
from sharpreel.errors import InputError, UsageError, write_error
from sharpreel.evaluation.metrics.seams import Seams
from sharpreel.evaluation.pairs import deepened
from sharpreel.evaluation.protocols import Protocol
from sharpreel.evaluation.scores import (
    MetricSet,
    ModelResult,
    ReferenceFrame,
    ScoreAccumulator,
    mean_of_numbers,
    plain,
    to_protocol,
)
from sharpreel.media import images, mux, writer
from sharpreel.media import reader as video_reader
from sharpreel.media.color import RGB, default_matrix
from sharpreel.media.encoders import CODECS, EncodeSettings, validate_encoder
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.mux import Assembly, Segment
from sharpreel.media.probe import probe
from sharpreel.ops import Pixels

Mode = Literal["wipe", "side-by-side"]
Tell = Callable[[int, int | None], None]  # frames done, frames in all where known
Small = npt.NDArray[np.float64]  # luma of a frame, reduced to SIGNATURE

MOST_OFFSET = 30  # frames that one video may begin later than the other
LOOKED_AT = 300  # frames of each that are looked at to find it
FEWEST = 8  # steps that two videos must share for an offset to be believed
ALIKE = 0.5  # least correlation of two videos of one content
SIGNATURE = (18, 32)  # height and width
SHEET_FRAMES, SHEET_WIDTH = 6, 480  # of the contact sheet, and of one picture in it
AMPLIFIED = 4  # times, differences in the contact sheet
SWEEP_SECONDS = 8  # that the line of a wipe takes to come back


@dataclass(frozen=True)
class Comparison:
    """What `compare` found and made.

    Attributes:
        frames: Frames that were compared.
        offset: Frames by which b's content comes later than a's; 0 unless it was asked for.
        reference_offset: Likewise of the reference.
        psnr: Of b against a by the protocol, dB: how different they are, not how good.
        seam_time, seam_space: Of b against a, where joins were looked for: 1 does not stand out.
        a_scores, b_scores: Against the reference; None without one.
        reference_warping_error: The reference's own; see `temporal.warping_error`.
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
    tell: Tell | None = None,
) -> Comparison:
    """Compare two videos of one content and one size.

    Args:
        reference: The truth, of the same size: both are measured against it.
        out: The comparison video, .mp4, with the times of a. The contact sheet is named after it:
            `<stem>.png`, six rows of a, b and their difference times four and, where there is
            one, the reference.
        mode: "wipe" shows a left of a line that moves slowly and b right of it; "side-by-side"
            shows both whole. Odd sides grow by a pixel, which H.264 needs.
        align: Find how many frames later b (and the reference) begins than a, up to 30, and
            compare what both have. Without it every frame must have its counterpart.
        protocol: A key of `protocols.PROTOCOLS`, or a variant of one.
        temporal: Measure motion, too, which needs OpenCV; only with a reference.
        seams: Where joins may show; see `seams.Seams`. Compare a video that was made in pieces
            with one that was made whole.
        tell: Called for each frame.

    Raises:
        InputError: A file is no video; or lengths, sizes, times or the order of frames differ.
        UsageError: No such protocol or mode, or the output cannot be this file.
    """
    joins = Seams.parse(seams) if seams else None
    measures = MetricSet(to_protocol(protocol), temporal, seams=joins)
    if mode not in ("wipe", "side-by-side"):
        raise UsageError(f"There is no mode {mode!r}; there are wipe and side-by-side.")
    if out.suffix.lower() != ".mp4":
        raise UsageError(f"{out}: the comparison is an MP4; give it a name that ends in .mp4.")
    inputs = [path for path in (a, b, reference) if path is not None]
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs):
        raise UsageError(f"{out} is one of the videos to compare; give another name.")
    infos = [probe(path) for path in inputs]
    for info, path in zip(infos[1:], inputs[1:], strict=True):
        if (info.width, info.height) != (infos[0].width, infos[0].height):
            raise InputError(
                f"frame 0: {infos[0].width}x{infos[0].height} in {a} against "
                f"{info.width}x{info.height} in {path}. Scale one to the size of the other first."
            )
    notes: list[str] = []
    offsets = [0] * len(inputs)
    if align:
        for k in range(1, len(inputs)):
            offsets[k] = find_offset(a, inputs[k])
            notes.append(f"{inputs[k]}: {_later(offsets[k])}")
    rows = _in_step(inputs, infos, offsets, align, notes)
    wanted = _expected(infos, offsets)
    try:
        return _run(rows, inputs, infos[0], offsets, measures, mode, out, wanted, tell, notes)
    except ValueError as e:
        raise UsageError(f"{a}: {e}") from e


def _later(offset: int) -> str:
    if offset == 0:
        return "begins at the same frame"
    when = "later" if offset > 0 else "earlier"
    return f"the same content comes {abs(offset)} frame{'s' * (abs(offset) != 1)} {when}"


def _expected(infos: list[VideoInfo], offsets: list[int]) -> int | None:
    """Frames that will be compared, as far as the containers tell."""
    skipped = _skipped(offsets)
    lengths = [
        info.num_frames - skip
        for info, skip in zip(infos, skipped, strict=True)
        if info.num_frames is not None
    ]
    return max(min(lengths), 1) if lengths else None


def _skipped(offsets: list[int]) -> list[int]:
    """Frames that each video has before the first that all have."""
    return [offset - min(offsets) for offset in offsets]


# In step -------------------------------------------------------------------------------------


def _signature(pixels: Pixels) -> Small:
    """A frame's luma by areas, small: what tells frames of one content from each other."""
    height, width = (min(s, p) for s, p in zip(SIGNATURE, pixels.shape[:2], strict=True))
    # Every pixel of a large frame is not needed for that.
    step = max(min(pixels.shape[0] // (4 * height), pixels.shape[1] // (4 * width)), 1)
    small = area_resize(pixels[None, ::step, ::step], height, width)[0]
    return ops.luma(small)


def find_offset(a: Path, b: Path, most: int = MOST_OFFSET) -> int:
    """How many frames later b's content comes than a's: a's frame t is b's frame t + offset.

    Both are reduced to 32x18 pixels of luma; what changes from frame to frame is correlated at
    each offset, which does not mind other brightness, sharpness or size. The first 300 frames are
    looked at.

    Raises:
        InputError: No offset makes the two alike.
    """
    steps = [_steps(path) for path in (a, b)]
    found: dict[int, float] = {}
    for offset in range(-most, most + 1):
        begin = max(0, -offset)
        count = min(len(steps[0]) - begin, len(steps[1]) - begin - offset)
        if count < min(FEWEST, len(steps[0]), len(steps[1])) or count < 1:
            continue
        x = steps[0][begin : begin + count].ravel()
        y = steps[1][begin + offset : begin + offset + count].ravel()
        length = math.sqrt(float(x @ x) * float(y @ y))
        found[offset] = float(x @ y) / length if length else 0.0
    best = max(found, key=lambda k: (found[k], -abs(k)), default=0)
    if found.get(best, 0.0) < ALIKE:
        raise InputError(
            f"{a} and {b}: no offset of up to {most} frames makes them alike (the best, {best}, "
            f"correlates by {found.get(best, 0.0):.2f}). Are they of one content and frame rate?"
        )
    return best


def _steps(path: Path) -> Small:
    """What changes from frame to frame at the beginning of a video, (T - 1, h, w)."""
    frames = itertools.islice(video_reader.VideoReader(probe(path)), LOOKED_AT)
    small = [_signature(frame.pixels) for frame in frames]
    return np.diff(np.stack(small), axis=0)


def _in_step(
    inputs: list[Path], infos: list[VideoInfo], offsets: list[int], align: bool, notes: list[str]
) -> Iterator[list[Frame]]:
    """One frame of each video at a time, checked: count, time and order.

    With `align` the ends may differ, which is noted.
    """
    streams = [
        itertools.islice(video_reader.VideoReader(info), skip, None)
        for info, skip in zip(infos, _skipped(offsets), strict=True)
    ]
    order = _Order(inputs)
    starts: list[Fraction] | None = None
    for index in itertools.count():
        row = [next(stream, None) for stream in streams]
        if None in row:
            ended = [path for path, frame in zip(inputs, row, strict=True) if frame is None]
            going = [path for path, frame in zip(inputs, row, strict=True) if frame is not None]
            if going and not align:
                raise InputError(
                    f"frame {index}: only in {_names(going)}; {_names(ended)} "
                    f"{'ends' if len(ended) == 1 else 'end'} after {index} frames. "
                    "With align, what all have is compared."
                )
            if going:
                notes.append(f"{_names(going)} goes on after the {index} frames that all have")
            return
        frames = [frame for frame in row if frame is not None]
        seconds = [f.pts * i.time_base for f, i in zip(frames, infos, strict=True)]
        starts = starts or seconds
        _check_times(index, inputs, infos, [s - t for s, t in zip(seconds, starts, strict=True)])
        order.check(index, frames)
        yield frames
        del frames, row


def _names(paths: list[Path]) -> str:
    return " and ".join(map(str, paths))


def _check_times(
    index: int, inputs: list[Path], infos: list[VideoInfo], times: list[Fraction]
) -> None:
    """Raise InputError unless this frame is shown at one time in all, from their beginnings."""
    for path, info, at in zip(inputs[1:], infos[1:], times[1:], strict=True):
        if abs(at - times[0]) * max(infos[0].rate, info.rate) * 2 > 1:
            raise InputError(
                f"frame {index}: shown at {float(times[0]):.3f} s in {inputs[0]} "
                f"({_rate(infos[0])} frames a second) against {float(at):.3f} s in {path} "
                f"({_rate(info)}). Convert one to the frame rate of the other first."
            )


def _rate(info: VideoInfo) -> str:
    return f"{float(info.rate):.6g}"


class _Order:
    """Finds two neighbouring frames that stand in the other order in one of the videos."""

    def __init__(self, inputs: list[Path]) -> None:
        self._inputs = inputs
        self._before: list[Small] = []

    def check(self, index: int, frames: list[Frame]) -> None:
        """Raise InputError when each of the last two frames is like the other's counterpart."""
        now = [_signature(frame.pixels) for frame in frames]
        before, self._before = self._before, now
        for path, first, second in zip(self._inputs[1:], before[1:], now[1:], strict=False):
            straight = _apart(before[0], first), _apart(now[0], second)
            crossed = _apart(before[0], second), _apart(now[0], first)
            if min(straight) > 3 and max(crossed) * 3 < min(straight):
                raise InputError(
                    f"frame {index - 1}: frames {index - 1} and {index} of {path} stand in the "
                    f"other order than in {self._inputs[0]}."
                )


def _apart(x: Small, y: Small) -> float:
    """Mean difference in levels, brightness in all aside."""
    return float(np.mean(np.abs(x - y)))


# Numbers and pictures ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Versions:
    """One frame of each, of one type; the reference is the last when there is one."""

    index: int
    pts: int
    pixels: list[Pixels]


def _run(
    rows: Iterator[list[Frame]],
    inputs: list[Path],
    info: VideoInfo,
    offsets: list[int],
    measures: MetricSet,
    mode: Mode,
    out: Path,
    total: int | None,
    tell: Tell | None,
    notes: list[str],
) -> Comparison:
    known = len(inputs) == 3
    protocol = measures.protocol
    tallies = [ScoreAccumulator(measures) for _ in range(2)] if known else []
    apart = replace(measures, temporal=False)
    between = ScoreAccumulator(apart)
    warping: list[float] = []
    sheet = _Sheet()
    film = _ComparisonWriter(out, info, mode)
    count = 0

    def drawn() -> Iterator[_Versions]:
        nonlocal count
        for row in rows:
            pixels = _of_one_type([frame.pixels for frame in row])
            film.write(row[0], pixels[0], pixels[1])
            sheet.offer(count, pixels)
            yield _Versions(count, row[0].pts, pixels)
            count += 1
            del row, pixels
            if tell is not None:
                tell(count, total)

    try:
        before: list[Pixels] = []
        rule = replace(protocol, only_centre=False)
        if protocol.only_centre:
            notes.append(f"every frame counts, not the middle one alone as in {protocol.name}")
        for one in rule.select(drawn()):
            a, b, *_ = one.pixels
            between.add(b, ReferenceFrame(apart, one.index, a, before[0] if before else None))
            if tallies:
                truth = ReferenceFrame(
                    measures, one.index, one.pixels[-1], before[-1] if before else None
                )
                for tally, pixels in zip(tallies, one.pixels, strict=False):
                    tally.add(pixels, truth)
                own = truth.warping_error()
                warping += [] if own is None else [own]
                del truth
            before = one.pixels
            del one, a, b
        if not between.scores:
            raise InputError(
                f"{inputs[0]}: protocol {protocol.name} counts none of the {count} frames."
            )
        film.close()
    except BaseException:
        film.abandon()
        raise
    poster = out.with_suffix(".png")
    images.write_png(poster, sheet.picture(["a", "b", f"|a - b| x{AMPLIFIED}", "reference"]))
    for path, tally in zip(inputs, tallies, strict=False):
        notes += [f"{path}: {note}" for note in tally.notes()]
    scores = [
        tally.result(str(path), math.nan) for path, tally in zip(inputs, tallies, strict=False)
    ]
    joined = between.result("", math.nan)
    return Comparison(
        a=str(inputs[0]),
        b=str(inputs[1]),
        reference=str(inputs[2]) if known else None,
        protocol=protocol.name,
        mode=mode,
        frames=count,
        offset=offsets[1],
        reference_offset=offsets[2] if known else 0,
        psnr=joined.psnr,
        seam_time=joined.seam_time,
        seam_space=joined.seam_space,
        a_scores=scores[0] if known else None,
        b_scores=scores[1] if known else None,
        reference_warping_error=mean_of_numbers(warping),
        video=out,
        sheet=poster,
        notes=tuple(notes),
    )


def _of_one_type(frames: list[Pixels]) -> list[Pixels]:
    if len({frame.dtype for frame in frames}) == 1:
        return frames
    return [deepened(frame) for frame in frames]


class _ComparisonWriter:
    """The comparison video, encoded as it comes and given its name when it is whole."""

    def __init__(self, out: Path, info: VideoInfo, mode: Mode) -> None:
        self._out, self._info, self._mode = out, info, mode
        self._line = 2 + info.height // 720  # pixels
        width = info.width * 2 if mode == "side-by-side" else info.width
        color = info.color
        if color.matrix == RGB:
            matrix = default_matrix(width, info.height)
            color = replace(color, matrix=matrix, full_range=False)
        codec = CODECS["h264"]
        self._settings = EncodeSettings(
            codec="h264",
            pix_fmt="yuv420p",
            width=width + width % 2,
            height=info.height + info.height % 2,
            crf=codec.crf,
            preset=codec.preset,
            color=color,
            sample_aspect_ratio=info.sample_aspect_ratio,
            rate=info.rate.limit_denominator(1_000_000),
            time_base=info.time_base,
        )
        validate_encoder(self._settings)
        self._began: int | None = None
        self._last_duration = 1
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=".comparison-")
        except OSError as e:
            raise write_error(out, e) from e
        self._encoder = writer.SegmentWriter(
            Path(self._folder.name) / "picture.mkv", self._settings
        )

    def write(self, frame: Frame, a: Pixels, b: Pixels) -> None:
        """Draw a and b at the time of a's frame."""
        self._began = frame.pts if self._began is None else self._began
        at = frame.pts - self._began
        if self._mode == "wipe":
            picture = self._wiped(a, b, float(at * self._info.time_base))
        else:
            picture = np.concatenate([a, b], axis=1)
        picture = ops.pad_to_multiple(picture, 2)
        self._encoder.write(Frame(picture, at))
        step = round(1 / (self._info.rate * self._info.time_base))
        self._last_duration = frame.duration or max(step, 1)

    def _wiped(self, a: Pixels, b: Pixels, seconds: float) -> Pixels:
        """a left of a line, b right of it; the line swings about the middle."""
        width = a.shape[1]
        place = line_at(width, seconds)
        picture = a.copy()
        picture[:, place:] = b[:, place:]
        first = max(place - self._line // 2, 0)
        picture[:, first : first + self._line] = np.iinfo(a.dtype).max
        return picture

    def close(self) -> None:
        self._encoder.close()
        target = Path(self._folder.name) / "whole.mp4"
        rotation = None if self._mode == "side-by-side" else self._info.display_matrix
        assembly = Assembly(
            source=None,
            streams=(),
            suffix=".mp4",
            settings=self._settings,
            display_matrix=rotation,
            last_duration=self._last_duration,
        )
        encoder = self._encoder
        mux.assemble(assembly, [Segment(encoder.path, encoder.pts, encoder.order)], target)
        try:
            os.replace(target, self._out)
        except OSError as e:
            raise write_error(self._out, e) from e
        self._folder.cleanup()

    def abandon(self) -> None:
        self._encoder.abandon()
        self._folder.cleanup()


def line_at(width: int, seconds: float) -> int:
    """The first column right of a wipe's line: it begins in the middle and swings to a tenth of
    the width from each side."""
    swing = math.sin(2 * math.pi * seconds / SWEEP_SECONDS)
    return round(width * (0.5 + 0.4 * swing))


class _Sheet:
    """Rows of pictures of a few frames, evenly spread over a video whose length is not known.

    Every `step`-th frame is kept; when there are twice as many as wanted, every other goes and the
    step doubles.
    """

    def __init__(self) -> None:
        self._step = 1
        self._rows: list[tuple[int, list[Pixels]]] = []

    def offer(self, index: int, pixels: list[Pixels]) -> None:
        if index % self._step:
            return
        if len(self._rows) == 2 * SHEET_FRAMES:
            self._rows = self._rows[::2]
            self._step *= 2
            if index % self._step:
                return
        a, b, *truth = pixels
        top = np.iinfo(a.dtype).max
        difference = np.abs(a.astype(np.int32) - b.astype(np.int32)) * AMPLIFIED
        versions = [a, b, difference.clip(0, top).astype(a.dtype), *truth]
        self._rows.append((index, [_thumbnail(one) for one in versions]))

    def picture(self, heads: list[str]) -> Pixels:
        """The sheet, RGB in 8 bits."""
        count = min(len(self._rows), SHEET_FRAMES)
        chosen = [self._rows[round(k)] for k in np.linspace(0, len(self._rows) - 1, count)]
        gap = 8
        lines = []
        for index, versions in chosen:
            cells = []
            for head, one in zip(heads, versions, strict=False):
                cell = np.pad(one, ((26, 0), (0, gap), (0, 0)), constant_values=24)
                cells.append(_labelled(cell, f"{head}, frame {index}"))
            lines.append(np.concatenate(cells, axis=1))
        whole = np.concatenate(lines, axis=0)
        return np.pad(whole, ((0, gap), (gap, 0), (0, 0)), constant_values=24)


def _thumbnail(pixels: Pixels) -> Pixels:
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    height, width = pixels.shape[:2]
    if width <= SHEET_WIDTH:
        return pixels.copy()
    return ops.resize(pixels, max(round(height * SHEET_WIDTH / width), 1), SHEET_WIDTH)


def _labelled(cell: Pixels, text: str) -> Pixels:
    """With a line of text in its head, where OpenCV is there to draw it and it fits."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        return cell
    cell = np.ascontiguousarray(cell)
    for words in (text, text.partition(",")[0]):
        if cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0] <= cell.shape[1]:
            cv2.putText(
                cell, words, (0, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (230,) * 3, 1, cv2.LINE_AA
            )
            break
    return cell
