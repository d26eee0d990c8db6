"""Long videos, to short clean training clips that no cut crosses.

    file or address ──> frames ──> windows of one scene ──judge──> the best ──> clips + manifest.csv

A video is decoded once. Each frame is scaled down at once, so that most of what compression did to
it vanishes, and only the frames of the window being filled stay in memory; a window that may be
among the best waits on the disk. What is measured at the source's own size (blocks, combing) is
measured on three frames of each window.

`manifest.csv` and `done.txt` in the output folder say what was made and which sources are finished;
the same call goes on with the rest. One run at a time in a folder.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, field, fields, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from statistics import median_high
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt

from sharpreel import fetch, mux, ops, video
from sharpreel.errors import InputError, UsageError, write_error
from sharpreel.ops import Frame as Pixels
from sharpreel.upscale import ahead
from sharpreel.windows import SceneCut

MANIFEST, DONE = "manifest.csv", "done.txt"
WORK = ".harvest-"  # begins the name of the folder in which a run works
YT_DLP = (
    *("--ignore-config", "--no-playlist", "--playlist-items", "1", "--quiet", "--no-progress"),
    *("-f", "bv*/b", "--restrict-filenames", "-o", "%(id)s.%(ext)s"),
)
PER_PART = 2  # windows that wait for each part of a video: one, and one for a part that has none
COMB_STEP = 6  # 8-bit levels by which the lines of two fields differ at the least
LEAST_JUMP = 5.0  # 8-bit levels; less is no jump, however still the rest of a window

Luma = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HarvestSettings:
    """What is cut, what is kept, and how it is stored.

    Differences and levels are of 8 bits (0 to 255); those of luma are of BT.601's 16 to 235.

    Attributes:
        clip_len: Frames of a clip.
        height: Pixels of a clip's shorter side, which is its height unless it stands upright;
            even. Smaller sources are not enlarged.
        least_shrink: Sources whose shorter side is less than this many times `height` are refused.
        allow_small: Take those too, at their own size if they are no larger than `height`.
        per_scene, per_video: At most so many clips of one scene, and of one source.
        most_rate: Frames a second; of faster sources every second frame (or third, ...) is left
            out.
        repeat_below: Mean absolute difference below which a frame repeats the one before it.
        repeat_share: So does one whose difference is below this share of what is usual just here,
            and below one level: compression lets repeats differ a little.
        cut_threshold: Of `windows.SceneCut`; lower than its own default, since a cut that is
            missed spoils a clip and a false one loses little.
        least_motion: Mean absolute difference of neighbouring luma frames; less is static.
        most_jump: See `jump`; more is a flash or a hidden cut.
        least_detail: Mean squared difference between luma and its 4x reduced and enlarged self;
            less is blurred.
        most_blockiness: See `blockiness`.
        most_combing: See `combing`.
        least_brightness: Mean luma; less is dark.
        least_contrast: Standard deviation of luma; less is flat.
        crf, preset: Of the H.264 encoder.
        rights: What the manifest says of the rights in these sources.
    """

    clip_len: int = 20
    height: int = 360
    least_shrink: float = 1.5
    allow_small: bool = False
    per_scene: int = 2
    per_video: int = 8
    most_rate: float = 40.0
    repeat_below: float = 0.1
    repeat_share: float = 0.15
    cut_threshold: float = 7.0
    least_motion: float = 0.5
    most_jump: float = 3.0
    least_detail: float = 20.0
    most_blockiness: float = 1.3
    most_combing: float = 0.3
    least_brightness: float = 30.0
    least_contrast: float = 8.0
    crf: int = 13
    preset: str = "slow"
    rights: str = "unknown"

    def __post_init__(self) -> None:
        if self.clip_len < 2 or self.per_scene < 1 or self.per_video < 1:
            raise ValueError(
                "clip_len must be 2 or more, per_scene and per_video 1 or more, got "
                f"{self.clip_len}, {self.per_scene} and {self.per_video}."
            )
        if self.height < 16 or self.height % 2:
            raise ValueError(f"height must be even and 16 or more, got {self.height}.")
        if self.least_shrink < 1 or self.most_rate <= 0:
            raise ValueError(
                "least_shrink must be 1 or more and most_rate above 0, got "
                f"{self.least_shrink} and {self.most_rate}."
            )


DEFAULTS = HarvestSettings()


@dataclass(frozen=True)
class Row:
    """One clip, as a line of the manifest has it.

    Attributes:
        file: Its name in the folder of the manifest.
        source: The absolute path, or the address, that it was cut from.
        start_seconds: Of its first frame, by the source's clock.
        width, height: In pixels; `source_width` and `source_height` are as stored, not turned.
        motion, detail, blockiness, score: See `Measures`.
        sha256: Of the file.
    """

    file: str
    source: str
    start_seconds: float
    frames: int
    width: int
    height: int
    source_width: int
    source_height: int
    motion: float
    detail: float
    blockiness: float
    score: float
    sha256: str
    rights: str


@dataclass
class Report:
    """How far a source is, and in the end what became of it.

    Attributes:
        seconds, of_seconds: How much was looked at, and how much there is when the file says.
        windows: Of `clip_len` frames, looked at so far; `rejected` counts why some were not taken.
        repeated: Frames left out because they repeat the one before.
        problem: Why nothing was taken, or what of it could not be read; "" when all is well.
        finished: Nothing more follows about this source.
    """

    source: str
    seconds: float = 0.0
    of_seconds: float | None = None
    scenes: int = 0
    windows: int = 0
    repeated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    clips: int = 0
    problem: str = ""
    finished: bool = False


Tell = Callable[[Report], None]


@dataclass(frozen=True)
class Measures:
    """What is known of a window; units as in `HarvestSettings`.

    `blockiness` and `combing` are of the source's own pixels, the others of the scaled frames.
    """

    motion: float
    jump: float
    detail: float
    blockiness: float
    combing: float
    brightness: float
    contrast: float

    @property
    def score(self) -> float:
        """0 to 1: what moves and has detail, up to where more is no better; less for blocks."""
        motion, detail = min(self.motion / 6, 1.0), min(self.detail / 150, 1.0)
        return math.sqrt(motion * detail) / max(self.blockiness, 1.0)

    def reason(self, settings: HarvestSettings) -> str:
        """Why a window is not taken, in one word; "" for a good one."""
        checks = {
            "dark": self.brightness < settings.least_brightness,
            "flat": self.contrast < settings.least_contrast,
            "static": self.motion < settings.least_motion,
            "jump": self.jump > settings.most_jump,
            "combed": self.combing > settings.most_combing,
            "blocky": self.blockiness > settings.most_blockiness,
            "blurred": self.detail < settings.least_detail,
        }
        return next((word for word, bad in checks.items() if bad), "")


# --- measures ------------------------------------------------------------------------------------


def detail(luma: Luma) -> float:
    """Mean squared difference between luma, (H, W), and its 4x reduced and enlarged self."""
    height, width = luma.shape
    whole = np.rint(luma).astype(np.uint8)[..., None]
    small = ops.resize(whole, max(height // 4, 1), max(width // 4, 1))
    smooth = ops.resize(small, height, width)
    return float(np.mean((whole.astype(np.float32) - smooth) ** 2))


def blockiness(luma: Luma) -> float:
    """How much larger luma's steps are across multiples of 8 than elsewhere; 1 for no blocks.

    Codecs cut pictures to blocks of 8 or a multiple of it. A quarter of a level is added to both
    means, so that a flat picture has none. Of rows and columns the mean.

    Args:
        luma: (H, W), in 8-bit levels.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)  # (H - 1,) or (W - 1,)
        border = np.arange(1, len(steps) + 1) % 8 == 0
        if border.any():
            ratios.append((steps[border].mean() + 0.25) / (steps[~border].mean() + 0.25))
    return float(np.mean(ratios)) if ratios else 1.0


def combing(luma: Luma) -> float:
    """Share of pixels, in percent, where the lines of two fields alternate; 0 for whole frames.

    A pixel counts where luma goes up and down in turn over five lines. Fine texture does so too,
    but no more across lines than along them: twice the share along them is taken off.

    Args:
        luma: (H, W), in 8-bit levels.
    """

    whole = np.rint(luma).astype(np.int16)
    return max(_alternating(whole) - 2 * _alternating(whole.T), 0.0)


def _alternating(picture: npt.NDArray[np.int16]) -> float:
    """Share of pixels, in percent, that begin five rows which go up and down in turn."""
    steps = np.diff(picture, axis=0)
    if len(steps) < 4:
        return 0.0
    signs = (steps > COMB_STEP).astype(np.int8) - (steps < -COMB_STEP).astype(np.int8)
    signs[1::2] *= -1  # now alternating means staying the same
    runs = signs[:-3] + signs[1:-2] + signs[2:-1] + signs[3:]
    return 100 * float(np.mean(np.abs(runs) == 4))


def jump(steps: list[float]) -> float:
    """How far the largest step stands above the median of those about it; 1 for none.

    A camera that starts to move does not jump: the steps about the largest are large too.

    Args:
        steps: Differences of neighbouring frames, in 8-bit levels.
    """
    ratios = [1.0]
    for k, step in enumerate(steps):
        about = steps[max(k - 3, 0) : k] + steps[k + 1 : k + 4]
        if about and step > LEAST_JUMP:
            ratios.append(step / max(float(np.median(about)), 1e-6))
    return max(ratios)


def difference(one: Pixels, two: Pixels) -> float:
    """Mean absolute difference of two frames, in 8-bit levels; from every fourth pixel."""
    top = np.iinfo(one.dtype).max
    apart = one[::4, ::4].astype(np.float32) - two[::4, ::4].astype(np.float32)
    return float(np.abs(apart).mean()) * 255 / top


# --- frames --------------------------------------------------------------------------------------


def shrink(frame: Pixels, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The frame at a smaller size: the area mean of whole pixels, then bicubic for the rest.

    Args:
        frame: RGB, (H, W, 3), uint8 or uint16, at least `height` by `width`.

    Returns:
        (height, width, 3), uint8. One odd row or column is cropped rather than resampled.
    """
    down, across = frame.shape[0] // height, frame.shape[1] // width
    deep = frame.dtype == np.uint16
    if deep or down * across > 1:
        rows, columns = frame.shape[0] // down * down, frame.shape[1] // across * across
        whole = frame[:rows, :columns]
        total = np.zeros((rows // down, columns // across, 3), np.uint32)
        for y, x in itertools.product(range(down), range(across)):
            total += whole[y::down, x::across]
        unit = down * across * (257 if deep else 1)
        frame = ((total + unit // 2) // unit).astype(np.uint8)
    if 0 <= frame.shape[0] - height < 2 and 0 <= frame.shape[1] - width < 2:
        frame = frame[:height, :width]
    made: npt.NDArray[np.uint8] = ops.resize(frame, height, width)
    return np.ascontiguousarray(made)


def clip_size(info: video.VideoInfo, settings: HarvestSettings) -> tuple[int, int]:
    """(width, height) of the clips of a video, before it is turned; square pixels, even.

    Raises:
        InputError: The video is too small.
    """
    aspect = info.sample_aspect_ratio
    width = Fraction(info.width) * min(aspect, Fraction(1))
    height = Fraction(info.height) / max(aspect, Fraction(1))
    factor = min(width, height) / settings.height
    if factor < settings.least_shrink and not settings.allow_small:
        least = math.ceil(settings.height * settings.least_shrink)
        raise InputError(
            f"{info.path}: {info.width}x{info.height} is too small: clips of {settings.height} "
            f"pixels want {least} or more. Choose a smaller height, or allow small sources."
        )
    if factor <= 1:
        return int(width) // 2 * 2, int(height) // 2 * 2
    return 2 * round(width / factor / 2), 2 * round(height / factor / 2)


def _sound(reader: video.VideoReader, most_rate: float) -> Iterator[tuple[video.Frame, bool]]:
    """Frames without faults, not too many a second, each with: is something missing before it?

    After a frame that was lost or damaged, nothing is taken until decoding starts afresh.
    """
    gap = 0.9 / (most_rate * float(reader.info.time_base))  # clocks of milliseconds waver
    report = reader.report
    lost: list[int] = []  # pts; decoders work ahead, so that good frames may still come before
    told = damaged = 0
    broken, last = False, -math.inf
    for frame in reader:
        lost += [pts for pts, _ in report.errors[told:]]
        told = len(report.errors)
        hurt, damaged = report.damaged > damaged, report.damaged
        if hurt or any(pts <= frame.pts for pts in lost):
            broken, lost = True, [pts for pts in lost if pts > frame.pts]
        if broken and (hurt or not frame.key):
            continue
        if broken or frame.pts - last >= gap:
            yield frame, broken
            broken, last = False, frame.pts


@dataclass
class _Window:
    """Frames of one scene that follow each other, with what only their full size tells."""

    scene: int
    frames: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    pts: list[int] = field(default_factory=list)
    blockiness: list[float] = field(default_factory=list)
    combing: list[float] = field(default_factory=list)

    def measure(self) -> Measures:
        lumas = [ops.luma(frame) for frame in self.frames]
        steps = [float(np.abs(b - a).mean()) for a, b in itertools.pairwise(lumas)]
        some = [lumas[k] for k in _sampled(len(lumas))]
        return Measures(
            motion=float(np.mean(steps)),
            jump=jump(steps),
            detail=float(np.mean([detail(luma) for luma in some])),
            blockiness=float(np.mean(self.blockiness)),
            combing=max(self.combing),  # of film shown as video two frames in five are combed
            brightness=float(np.mean([luma.mean() for luma in some])),
            contrast=float(np.mean([luma.std() for luma in some])),
        )


def _sampled(count: int) -> set[int]:
    """Which frames of a window stand for all of them."""
    return {0, count // 2, count - 1}


def _windows(
    frames: Iterable[tuple[video.Frame, bool]],
    size: tuple[int, int],
    quarter_turns: int,
    settings: HarvestSettings,
    report: Report,
) -> Iterator[_Window]:
    """Windows that do not overlap, each of `clip_len` frames of one scene.

    Args:
        size: (width, height) that frames are scaled to, before they are turned.
        quarter_turns: Clockwise.
    """
    width, height = size
    find_cut = SceneCut(settings.cut_threshold)
    before: Pixels | None = None
    usual: deque[float] = deque(maxlen=8)
    window = _Window(0)
    sampled = _sampled(settings.clip_len)
    for frame, broken in frames:
        if before is not None and not broken:
            apart = difference(frame.pixels, before)
            relative = settings.repeat_share * median_high(usual) if usual else 0.0
            if apart < max(settings.repeat_below, min(relative, 1.0)):
                report.repeated += 1
                continue
            usual.append(apart)
        before = frame.pixels
        if find_cut(frame.pixels) or broken:
            usual.clear()
            window = _Window(window.scene + 1)
        report.scenes = window.scene + 1
        if len(window.frames) in sampled:
            luma = ops.luma(frame.pixels)
            window.blockiness.append(blockiness(luma))
            window.combing.append(combing(luma))
        window.frames.append(np.rot90(shrink(frame.pixels, height, width), -quarter_turns))
        window.pts.append(frame.pts)
        if len(window.frames) == settings.clip_len:
            yield window
            window = _Window(window.scene)


# --- the best windows ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """A window that may become a clip; its frames, (T, H, W, 3), wait in a file."""

    path: Path
    scene: int
    begins: float  # seconds after the first frame of the video
    pts: tuple[int, ...]
    measures: Measures


class _Pool:
    """The best windows seen so far, spread over the video; few, however long it is.

    Args:
        folder: Where their frames wait.
        seconds: Length of the video; None where the file does not say. The parts then begin
            short, and double when there would be more than `per_video`.
    """

    def __init__(self, folder: Path, settings: HarvestSettings, seconds: float | None) -> None:
        self._folder, self._settings = folder, settings
        self._part_seconds = max((seconds or 1.0) / settings.per_video, 1e-3)
        self._kept: list[_Kept] = []
        self._seen = 0

    def add(self, window: _Window, measures: Measures, begins: float) -> None:
        self._seen += 1
        path = self._folder / f"{self._seen}.npy"
        new = _Kept(path, window.scene, begins, tuple(window.pts), measures)
        while begins / self._part_seconds >= self._settings.per_video:
            self._part_seconds *= 2
        staying = self._pruned([*self._kept, new])
        if new in staying:
            try:
                np.save(path, np.stack(window.frames))
            except OSError as e:
                raise write_error(path, e) from e
        for old in self._kept:
            if old not in staying:
                old.path.unlink(missing_ok=True)
        self._kept = staying

    def _part(self, one: _Kept) -> int:
        return int(one.begins / self._part_seconds)

    def _pruned(self, kept: list[_Kept]) -> list[_Kept]:
        """At most `per_scene` of each scene, and of those at most PER_PART of each part."""
        scenes: Counter[int] = Counter()
        parts: Counter[int] = Counter()
        staying = []
        for one in sorted(kept, key=lambda k: (-k.measures.score, k.begins)):
            if scenes[one.scene] == self._settings.per_scene or parts[self._part(one)] == PER_PART:
                continue
            scenes[one.scene] += 1
            parts[self._part(one)] += 1
            staying.append(one)
        return staying

    def best(self) -> list[_Kept]:
        """The best of each part, then the best of the rest, `per_video` at most; in order."""
        firsts: dict[int, _Kept] = {}
        for one in self._kept:  # best first
            firsts.setdefault(self._part(one), one)
        chosen = list(firsts.values())
        chosen += [one for one in self._kept if one not in chosen]
        return sorted(chosen[: self._settings.per_video], key=lambda k: k.begins)


# --- clips ---------------------------------------------------------------------------------------


def _write_clip(
    frames: Pixels, pts: tuple[int, ...], info: video.VideoInfo, settings: HarvestSettings,
    target: Path,
) -> None:  # fmt: skip
    """Encode frames, (T, H, W, 3), to an MP4 with their own timing, from zero on; BT.709."""
    _, height, width, _ = frames.shape
    color = video.ColorInfo(video.BT709, False, primaries=video.BT709, transfer=video.BT709)
    encode = video.EncodeSettings(
        codec="h264",
        pix_fmt="yuv420p",
        width=width,
        height=height,
        crf=settings.crf,
        preset=settings.preset,
        color=color,
        rate=info.rate.limit_denominator(1_000_000),
        time_base=info.time_base,
    )
    segment = target.with_suffix(".mkv")
    encoder = video.VideoEncoder(segment, encode)
    try:
        for pixels, when in zip(frames, pts, strict=True):
            encoder.write(video.Frame(pixels, when - pts[0]))
        encoder.close()
    except BaseException:
        encoder.abandon()
        raise
    last = round(float(np.median(np.diff(pts))))
    whole = mux.Assembly(None, (), ".mp4", encode, None, last)
    mux.assemble(whole, [mux.Segment(segment, encoder.pts, encoder.order)], target)
    segment.unlink()


def _free_name(out: Path, stem: str) -> str:
    """`<stem>_<number>.mp4` with the first number that is not taken."""
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-") or "clip"
    return next(
        name
        for name in (f"{stem}_{number}.mp4" for number in itertools.count())
        if not (out / name).exists()
    )


def _cut(
    path: Path, source: str, out: Path, work: Path, settings: HarvestSettings, report: Report,
    tell: Tell | None,
) -> list[Row]:  # fmt: skip
    """The clips of one video, under their names in `out`; the manifest does not have them yet.

    Raises:
        InputError: It cannot be read, or is not for clips.
    """
    info = video.probe(path)
    if info.color.hdr:
        raise InputError(
            f"{source}: is HDR ({info.color.hdr}); clips are BT.709. Convert it to SDR first."
        )
    size = clip_size(info, settings)
    report.of_seconds = info.duration_seconds
    pool = _Pool(work, settings, info.duration_seconds)
    reader = video.VideoReader(info)
    with closing(ahead(_sound(reader, settings.most_rate))) as frames:
        try:
            for window in _windows(frames, size, info.rotation // 90, settings, report):
                measures = window.measure()
                begins = max(float((window.pts[0] - info.start_pts) * info.time_base), 0.0)
                reason = measures.reason(settings)
                if reason:
                    report.rejected[reason] += 1
                else:
                    pool.add(window, measures, begins)
                report.windows += 1
                report.seconds = float((window.pts[-1] - info.start_pts) * info.time_base)
                _tell(tell, report)
        except InputError as e:
            report.problem = _plain(e, work, source)  # what was found before it is good
    if reader.report.lost and not report.problem:
        report.problem = (
            f"{source}: {reader.report.lost} frames do not decode; what is near them was left out."
        )
    made: list[tuple[Path, _Kept]] = []
    for one in pool.best():
        made.append((one.path.with_suffix(".mp4"), one))
        _write_clip(np.load(one.path), one.pts, info, settings, made[-1][0])
    rows = []
    for part, one in made:
        width, height = size if not info.sideways else size[::-1]
        measures = one.measures
        digest = fetch.sha256_of(part)
        name = _free_name(out, path.stem)
        os.replace(part, out / name)
        rows.append(
            Row(
                file=name,
                source=source,
                start_seconds=round(float(one.pts[0] * info.time_base - info.origin), 3),
                frames=len(one.pts),
                width=width,
                height=height,
                source_width=info.width,
                source_height=info.height,
                motion=round(measures.motion, 2),
                detail=round(measures.detail, 1),
                blockiness=round(measures.blockiness, 3),
                score=round(measures.score, 4),
                sha256=digest,
                rights=settings.rights,
            )
        )
    return rows


def _plain(error: InputError, work: Path, source: str) -> str:
    """What an error says, with the address in place of the file that was brought from it."""
    return re.sub(rf"{re.escape(str(work))}[^:]*", lambda _: source, str(error))


def _tell(tell: Tell | None, report: Report) -> None:
    if tell is not None:
        tell(replace(report, rejected=Counter(report.rejected)))


# --- sources -------------------------------------------------------------------------------------


def is_address(source: str | Path) -> bool:
    return str(source).startswith(("http://", "https://"))


def sources_of(folder_or_list: str | Path) -> list[str]:
    """The videos of a folder and those below it, or the lines of a list; else the thing itself.

    A list is a .txt file with a path or an address a line; relative paths begin at its folder,
    lines that begin with # are comments.

    Raises:
        InputError: There is nothing at this path, or no video in it.
    """
    if is_address(folder_or_list):
        return [str(folder_or_list)]
    path = Path(folder_or_list)
    if path.is_dir():
        found = [
            str(p)
            for p in sorted(path.rglob("*"))
            if p.suffix.lower() in video.VIDEO_SUFFIXES and p.is_file()
            and not any(part.startswith(".") for part in p.relative_to(path).parts)
        ]  # fmt: skip
    elif path.suffix.lower() == ".txt":
        found = [
            line if is_address(line) else str(path.parent / line)
            for line in map(str.strip, _read(path).splitlines())
            if line and not line.startswith("#")
        ]
    elif path.exists():
        return [str(path)]
    else:
        raise InputError(f"{path}: no such file or folder.")
    if not found:
        raise InputError(f"{path}: names no video.")
    return found


def _expanded(sources: Iterable[str | Path]) -> list[str]:
    """Each source once, absolute; folders and lists as what is in them."""
    found: dict[str, None] = {}
    for given in sources:
        path = Path(given)
        several = not is_address(given) and (path.is_dir() or path.suffix.lower() == ".txt")
        for source in sources_of(given) if several else [str(given)]:
            found[source if is_address(source) else os.path.abspath(source)] = None
    return list(found)


def _yt_dlp() -> list[str]:
    """The command that runs yt-dlp here.

    Raises:
        UsageError: It is not installed.
    """
    if script := shutil.which("yt-dlp"):
        return [os.path.abspath(script)]
    if find_spec("yt_dlp") is not None:
        return [sys.executable, "-m", "yt_dlp"]
    raise UsageError(
        "Videos at addresses are brought by yt-dlp, which is not installed: pip install yt-dlp."
    )


def _bring(address: str, command: list[str], folder: Path) -> Path:
    """The video of an address, in the folder; of a playlist, the first.

    Raises:
        InputError: yt-dlp does not bring it.
    """
    try:
        done = subprocess.run(
            [*command, *YT_DLP, "--", address],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as e:
        raise InputError(f"{address}: yt-dlp cannot be run ({e.strerror or e}).") from e
    files = [p for p in folder.iterdir() if p.suffix.lower() in video.VIDEO_SUFFIXES]
    if done.returncode or not files:
        words = done.stderr.strip().splitlines() or ["it says nothing"]
        raise InputError(f"{address}: yt-dlp does not bring it ({words[-1]}).")
    return max(files, key=lambda p: p.stat().st_size)


# --- the folder ----------------------------------------------------------------------------------


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest, in order.

    Raises:
        InputError: Not a manifest of this kind.
    """
    kinds: dict[str, Any] = get_type_hints(Row)
    rows = []
    reader = csv.DictReader(io.StringIO(_read(path), newline=""), restval="")
    for line in reader:
        try:
            rows.append(Row(**{name: kind(line[name]) for name, kind in kinds.items()}))
        except (KeyError, ValueError) as e:
            raise InputError(
                f"{path}: line {reader.line_num} is not of a manifest of clips; its columns are "
                f"{', '.join(kinds)}. Choose another output folder, or mend it."
            ) from e
    return rows


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write a manifest anew; the old one stands until the new one is whole."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(Row)])
    writer.writerows(astuple(row) for row in rows)
    _replace(path, text.getvalue())


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e}).") from e


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as e:
        raise write_error(path, e) from e


def harvest(
    sources: Iterable[str | Path],
    out: Path,
    settings: HarvestSettings = DEFAULTS,
    tell: Tell | None = None,
) -> list[Row]:
    """Cut clips from videos into a folder, and return the rows of the new ones.

    A source that cannot be read or is not fit is told of and left out; another call tries it
    again. Sources that are finished, with or without a clip, are passed over in the next call.

    Args:
        sources: Files, folders, lists (.txt) and addresses; see `sources_of`.
        out: The folder of the clips, `manifest.csv` and `done.txt`; made when it is not there.
        tell: Called after each window, and at the end of each source.

    Raises:
        InputError: A folder or a list names no video, or the manifest in `out` is not one.
        UsageError: An address, and yt-dlp is not installed; or `out` cannot be written.
        DiskFullError: No space left; the same call goes on.
    """
    manifest, done_list = out / MANIFEST, out / DONE
    wanted = _expanded(sources)
    rows = read_manifest(manifest) if manifest.is_file() else []
    done = dict.fromkeys(_read(done_list).splitlines() if done_list.is_file() else [])
    passed = {row.source for row in rows}.union(done)
    passed |= {os.path.abspath(out / row.file) for row in rows}  # where clips lie among sources
    todo = [source for source in wanted if source not in passed]
    command = _yt_dlp() if any(map(is_address, todo)) else []
    made: list[Row] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(WORK + "*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        for source in todo:
            report = Report(source)
            with tempfile.TemporaryDirectory(prefix=WORK, dir=out) as folder:
                work = Path(folder)
                try:
                    path = _bring(source, command, work) if is_address(source) else Path(source)
                    new = _cut(path, source, out, work, settings, report, tell)
                except InputError as e:
                    report.problem = _plain(e, work, source)
                else:
                    made += new
                    report.clips = len(new)
                    write_manifest(manifest, [*rows, *made])
                    done[source] = None
                    _replace(done_list, "".join(f"{name}\n" for name in done))
            report.finished = True
            _tell(tell, report)
    except OSError as e:
        raise write_error(out / MANIFEST, e) from e
    return made
