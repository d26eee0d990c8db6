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

import itertools
import math
import os
import re
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from statistics import median_high

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.data.clip_quality import (
    DEFAULTS,
    ClipMeasures,
    HarvestSettings,
    blockiness,
    combing,
    detail,
    difference,
    jump,
)
from sharpreel.data.manifest import (
    DONE,
    MANIFEST,
    ManifestRow,
    read_manifest,
    read_rows,
    replace_file,
    write_manifest,
)
from sharpreel.data.video_sources import (
    download_address,
    expand_playlist,
    is_address,
    plain_error,
    yt_dlp_command,
)
from sharpreel.errors import InputError, write_error
from sharpreel.media import mux, writer
from sharpreel.media import reader as video_reader
from sharpreel.media.color import BT709, ColorInfo
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.mux import Assembly, Segment
from sharpreel.media.probe import probe
from sharpreel.media.scene_cut import SceneCutDetector
from sharpreel.ops import Pixels
from sharpreel.system import download
from sharpreel.system.prefetch import prefetch

WORK = ".harvest-"  # begins the name of the folder in which a run works
PER_PART = 2  # windows that wait for each part of a video: one, and one for a part that has none


@dataclass
class HarvestReport:
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


Tell = Callable[[HarvestReport], None]


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


def clip_size(info: VideoInfo, settings: HarvestSettings) -> tuple[int, int]:
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


def _sound(reader: video_reader.VideoReader, most_rate: float) -> Iterator[tuple[Frame, bool]]:
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

    def measure(self) -> ClipMeasures:
        lumas = [ops.luma(frame) for frame in self.frames]
        steps = [float(np.abs(b - a).mean()) for a, b in itertools.pairwise(lumas)]
        some = [lumas[k] for k in _sampled(len(lumas))]
        return ClipMeasures(
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
    frames: Iterable[tuple[Frame, bool]],
    size: tuple[int, int],
    quarter_turns: int,
    settings: HarvestSettings,
    report: HarvestReport,
) -> Iterator[_Window]:
    """Windows that do not overlap, each of `clip_len` frames of one scene.

    Args:
        size: (width, height) that frames are scaled to, before they are turned.
        quarter_turns: Clockwise.
    """
    width, height = size
    find_cut = SceneCutDetector(settings.cut_threshold)
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
    measures: ClipMeasures


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

    def add(self, window: _Window, measures: ClipMeasures, begins: float) -> None:
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
    frames: Pixels, pts: tuple[int, ...], info: VideoInfo, settings: HarvestSettings,
    target: Path,
) -> None:  # fmt: skip
    """Encode frames, (T, H, W, 3), to an MP4 with their own timing, from zero on; BT.709."""
    _, height, width, _ = frames.shape
    color = ColorInfo(BT709, False, primaries=BT709, transfer=BT709)
    encode = EncodeSettings(
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
    encoder = writer.SegmentWriter(segment, encode)
    try:
        for pixels, when in zip(frames, pts, strict=True):
            encoder.write(Frame(pixels, when - pts[0]))
        encoder.close()
    except BaseException:
        encoder.abandon()
        raise
    last = round(float(np.median(np.diff(pts))))
    whole = Assembly(None, (), ".mp4", encode, None, last)
    mux.assemble(whole, [Segment(segment, encoder.pts, encoder.order)], target)
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
    path: Path, source: str, out: Path, work: Path,
    settings: HarvestSettings, report: HarvestReport,
    tell: Tell | None,
) -> list[ManifestRow]:  # fmt: skip
    """The clips of one video, under their names in `out`; the manifest does not have them yet.

    Raises:
        InputError: It cannot be read, or is not for clips.
    """
    info = probe(path)
    if info.color.hdr:
        raise InputError(
            f"{source}: is HDR ({info.color.hdr}); clips are BT.709. Convert it to SDR first."
        )
    size = clip_size(info, settings)
    report.of_seconds = info.duration_seconds
    pool = _Pool(work, settings, info.duration_seconds)
    reader = video_reader.VideoReader(info)
    with closing(prefetch(_sound(reader, settings.most_rate))) as frames:
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
            report.problem = plain_error(e, work, source)  # what was found before it is good
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
        digest = download.sha256_of(part)
        name = _free_name(out, path.stem)
        os.replace(part, out / name)
        rows.append(
            ManifestRow(
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


def _tell(tell: Tell | None, report: HarvestReport) -> None:
    if tell is not None:
        tell(replace(report, rejected=Counter(report.rejected)))


def harvest(
    sources: Iterable[str | Path],
    out: Path,
    settings: HarvestSettings = DEFAULTS,
    tell: Tell | None = None,
) -> list[ManifestRow]:
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
    wanted = expand_playlist(sources)
    rows = read_manifest(manifest) if manifest.is_file() else []
    done = dict.fromkeys(read_rows(done_list).splitlines() if done_list.is_file() else [])
    passed = {row.source for row in rows}.union(done)
    passed |= {os.path.abspath(out / row.file) for row in rows}  # where clips lie among sources
    todo = [source for source in wanted if source not in passed]
    command = yt_dlp_command() if any(map(is_address, todo)) else []
    made: list[ManifestRow] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(WORK + "*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        for source in todo:
            report = HarvestReport(source)
            with tempfile.TemporaryDirectory(prefix=WORK, dir=out) as folder:
                work = Path(folder)
                try:
                    path = (
                        download_address(source, command, work)
                        if is_address(source)
                        else Path(source)
                    )
                    new = _cut(path, source, out, work, settings, report, tell)
                except InputError as e:
                    report.problem = plain_error(e, work, source)
                else:
                    made += new
                    report.clips = len(new)
                    write_manifest(manifest, [*rows, *made])
                    done[source] = None
                    replace_file(done_list, "".join(f"{name}\n" for name in done))
            report.finished = True
            _tell(tell, report)
    except OSError as e:
        raise write_error(out / MANIFEST, e) from e
    return made
