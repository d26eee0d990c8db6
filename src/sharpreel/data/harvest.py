"""Cut long videos into short, clean training clips without scene cuts.

    file or URL ──> frames ──> windows of one scene ──measure──> the best ──> clips + manifest.csv

A video is decoded once. Each frame is downscaled immediately, which removes most compression
artefacts. Memory holds only the frames of the current window; windows that may be among the best
are kept on disk. Blocking and combing are measured at the source's own size, on three frames of
each window.

`manifest.csv` and `done.txt` in the output folder record the clips and the finished sources; the
same call resumes with the others. Only one run at a time may use a folder.
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
    read_text,
    replace_file,
    write_manifest,
)
from sharpreel.data.video_sources import (
    download_video,
    expand_sources,
    is_url,
    message_with_source,
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

WORK = ".harvest-"  # prefix of the folder for a run's temporary files
PER_PART = 2  # windows kept for each part of a video: one, and one for a part that has none


@dataclass
class HarvestReport:
    """Progress of one source, and in the end its result.

    Attributes:
        seconds, of_seconds: Time that was examined, and duration where the file states it.
        windows: Number of windows of `clip_len` frames so far; `rejected` counts the reasons why
            some were not taken.
        repeated: Frames skipped because they repeat the one before.
        problem: Why nothing was taken, or what could not be read; "" without problems.
        finished: This is the last report about the source.
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


ProgressCallback = Callable[[HarvestReport], None]


def shrink(frame: Pixels, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Downscale a frame: the area mean by the largest integer scale, then bicubic for the rest.

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
    small: npt.NDArray[np.uint8] = ops.resize(frame, height, width)
    return np.ascontiguousarray(small)


def clip_size(info: VideoInfo, settings: HarvestSettings) -> tuple[int, int]:
    """(width, height) of the clips of a video, before rotation; square pixels, even sides.

    Raises:
        InputError: The video is too small.
    """
    aspect = info.sample_aspect_ratio
    width = Fraction(info.width) * min(aspect, Fraction(1))
    height = Fraction(info.height) / max(aspect, Fraction(1))
    scale = min(width, height) / settings.height
    if scale < settings.least_shrink and not settings.allow_small:
        least = math.ceil(settings.height * settings.least_shrink)
        raise InputError(
            f"{info.path}: {info.width}x{info.height} is too small: height={settings.height} needs "
            f"{least} pixels or more. Choose a smaller `height`, or allow small sources."
        )
    if scale <= 1:
        return int(width) // 2 * 2, int(height) // 2 * 2
    return 2 * round(width / scale / 2), 2 * round(height / scale / 2)


def _intact(reader: video_reader.VideoReader, most_rate: float) -> Iterator[tuple[Frame, bool]]:
    """Undamaged frames at a limited rate, each with: are frames missing before it?

    After a frame that was lost or damaged, frames are skipped until the next key frame.
    """
    gap = 0.9 / (most_rate * float(reader.info.time_base))  # timestamps in milliseconds jitter
    report = reader.report
    lost: list[int] = []  # pts; decoders work ahead, so that good frames may still come before
    seen_errors = seen_damaged = 0
    broken, last = False, -math.inf
    for frame in reader:
        lost += [pts for pts, _ in report.errors[seen_errors:]]
        seen_errors = len(report.errors)
        damaged, seen_damaged = report.damaged > seen_damaged, report.damaged
        if damaged or any(pts <= frame.pts for pts in lost):
            broken, lost = True, [pts for pts in lost if pts > frame.pts]
        if broken and (damaged or not frame.key):
            continue
        if broken or frame.pts - last >= gap:
            yield frame, broken
            broken, last = False, frame.pts


@dataclass
class _Window:
    """Consecutive frames of one scene, downscaled, with measures from their full size."""

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
            combing=max(self.combing),  # telecined video has two combed frames in five
            brightness=float(np.mean([luma.mean() for luma in some])),
            contrast=float(np.mean([luma.std() for luma in some])),
        )


def _sampled(count: int) -> set[int]:
    """Indices of the frames of a window that are measured in place of all."""
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
        size: (width, height) that frames are scaled to, before rotation.
        quarter_turns: Clockwise rotation.
    """
    width, height = size
    find_cut = SceneCutDetector(settings.cut_threshold)
    before: Pixels | None = None
    recent: deque[float] = deque(maxlen=8)  # differences of neighbouring frames
    window = _Window(0)
    sampled = _sampled(settings.clip_len)
    for frame, broken in frames:
        if before is not None and not broken:
            change = difference(frame.pixels, before)
            relative = settings.repeat_share * median_high(recent) if recent else 0.0
            if change < max(settings.repeat_below, min(relative, 1.0)):
                report.repeated += 1
                continue
            recent.append(change)
        before = frame.pixels
        if find_cut(frame.pixels) or broken:
            recent.clear()
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


@dataclass(frozen=True)
class _Candidate:
    """A window that may become a clip; its frames, (T, H, W, 3), are in a file."""

    path: Path
    scene: int
    begins: float  # seconds after the first frame of the video
    pts: tuple[int, ...]
    measures: ClipMeasures


class _CandidatePool:
    """The best windows so far, spread over the video; few, however long the video is.

    Args:
        folder: Where their frames are stored.
        seconds: Duration of the video; None where the file does not state it. The parts then begin
            short, and double when there would be more than `per_video`.
    """

    def __init__(self, folder: Path, settings: HarvestSettings, seconds: float | None) -> None:
        self._folder, self._settings = folder, settings
        self._part_seconds = max((seconds or 1.0) / settings.per_video, 1e-3)
        self._candidates: list[_Candidate] = []
        self._added = 0

    def add(self, window: _Window, measures: ClipMeasures, begins: float) -> None:
        self._added += 1
        path = self._folder / f"{self._added}.npy"
        new = _Candidate(path, window.scene, begins, tuple(window.pts), measures)
        while begins / self._part_seconds >= self._settings.per_video:
            self._part_seconds *= 2
        staying = self._pruned([*self._candidates, new])
        if new in staying:
            try:
                np.save(path, np.stack(window.frames))
            except OSError as e:
                raise write_error(path, e) from e
        for old in self._candidates:
            if old not in staying:
                old.path.unlink(missing_ok=True)
        self._candidates = staying

    def _part(self, candidate: _Candidate) -> int:
        return int(candidate.begins / self._part_seconds)

    def _pruned(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """At most `per_scene` of each scene, and of those at most PER_PART of each part."""
        scenes: Counter[int] = Counter()
        parts: Counter[int] = Counter()
        staying = []
        for candidate in sorted(candidates, key=lambda c: (-c.measures.score, c.begins)):
            scene, part = candidate.scene, self._part(candidate)
            if scenes[scene] == self._settings.per_scene or parts[part] == PER_PART:
                continue
            scenes[scene] += 1
            parts[part] += 1
            staying.append(candidate)
        return staying

    def best(self) -> list[_Candidate]:
        """The best of each part, then the best of the rest, at most `per_video`; in order."""
        firsts: dict[int, _Candidate] = {}
        for candidate in self._candidates:  # best first
            firsts.setdefault(self._part(candidate), candidate)
        chosen = list(firsts.values())
        chosen += [candidate for candidate in self._candidates if candidate not in chosen]
        return sorted(chosen[: self._settings.per_video], key=lambda c: c.begins)


def _write_clip(
    frames: Pixels,
    pts: tuple[int, ...],
    info: VideoInfo,
    settings: HarvestSettings,
    target: Path,
) -> None:
    """Encode frames, (T, H, W, 3), to an MP4 with their own timing, starting at 0; BT.709."""
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
        for pixels, frame_pts in zip(frames, pts, strict=True):
            encoder.write(Frame(pixels, frame_pts - pts[0]))
        encoder.close()
    except BaseException:
        encoder.abandon()
        raise
    last = round(float(np.median(np.diff(pts))))
    assembly = Assembly(None, (), ".mp4", encode, None, last)
    mux.assemble(assembly, [Segment(segment, encoder.pts, encoder.order)], target)
    segment.unlink()


def _free_name(out: Path, stem: str) -> str:
    """`<stem>_<number>.mp4` with the first number that is free."""
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-") or "clip"
    return next(
        name
        for name in (f"{stem}_{number}.mp4" for number in itertools.count())
        if not (out / name).exists()
    )


def _find_candidates(
    info: VideoInfo,
    size: tuple[int, int],
    source: str,
    work: Path,
    settings: HarvestSettings,
    report: HarvestReport,
    on_progress: ProgressCallback | None,
) -> list[_Candidate]:
    """Decode a video once and return its best windows, in order.

    What was found before an unreadable part of the file is kept; `report.problem` names it.
    """
    pool = _CandidatePool(work, settings, info.duration_seconds)
    reader = video_reader.VideoReader(info)
    with closing(prefetch(_intact(reader, settings.most_rate))) as frames:
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
                _send(on_progress, report)
        except InputError as e:
            report.problem = message_with_source(e, work, source)
    if reader.report.lost and not report.problem:
        report.problem = (
            f"{source}: {reader.report.lost} frames cannot be decoded; those near them were "
            "skipped."
        )
    return pool.best()


def _cut(
    path: Path,
    source: str,
    out: Path,
    work: Path,
    settings: HarvestSettings,
    report: HarvestReport,
    on_progress: ProgressCallback | None,
) -> list[ManifestRow]:
    """Write the clips of one video to `out` and return their rows, not yet in the manifest.

    Raises:
        InputError: The video cannot be read, or is not suitable.
    """
    info = probe(path)
    if info.color.hdr:
        raise InputError(
            f"{source}: is HDR ({info.color.hdr}); clips are BT.709. Convert it to SDR first."
        )
    size = clip_size(info, settings)
    report.of_seconds = info.duration_seconds
    encoded: list[tuple[Path, _Candidate]] = []
    for candidate in _find_candidates(info, size, source, work, settings, report, on_progress):
        clip = candidate.path.with_suffix(".mp4")
        _write_clip(np.load(candidate.path), candidate.pts, info, settings, clip)
        encoded.append((clip, candidate))
    rows = []
    for clip, candidate in encoded:
        digest = download.sha256_of(clip)
        name = _free_name(out, path.stem)
        os.replace(clip, out / name)
        rows.append(_row(name, source, info, size, candidate, settings, digest))
    return rows


def _row(
    name: str,
    source: str,
    info: VideoInfo,
    size: tuple[int, int],
    candidate: _Candidate,
    settings: HarvestSettings,
    digest: str,
) -> ManifestRow:
    width, height = size[::-1] if info.sideways else size
    measures = candidate.measures
    return ManifestRow(
        file=name,
        source=source,
        start_seconds=round(float(candidate.pts[0] * info.time_base - info.origin), 3),
        frames=len(candidate.pts),
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


def _send(on_progress: ProgressCallback | None, report: HarvestReport) -> None:
    if on_progress is not None:
        on_progress(replace(report, rejected=Counter(report.rejected)))


def harvest(
    sources: Iterable[str | Path],
    out: Path,
    settings: HarvestSettings = DEFAULTS,
    on_progress: ProgressCallback | None = None,
) -> list[ManifestRow]:
    """Cut clips from videos into a folder, and return the manifest rows of the new clips.

    A source that cannot be read or is not suitable is reported and skipped; the next call tries it
    again. Sources that are finished, with or without a clip, are skipped in the next call.

    Args:
        sources: Files, folders, lists (.txt) and URLs; see `sources_of`.
        out: Folder of the clips, `manifest.csv` and `done.txt`; created if missing.
        on_progress: Called after each window, and at the end of each source.

    Raises:
        InputError: A folder or list contains no video, or the manifest in `out` is invalid.
        UsageError: A source is a URL and yt-dlp is not installed; or `out` cannot be written.
        DiskFullError: No space left; the same call resumes.
    """
    manifest, done_list = out / MANIFEST, out / DONE
    expanded = expand_sources(sources)
    rows = read_manifest(manifest) if manifest.is_file() else []
    done = dict.fromkeys(read_text(done_list).splitlines() if done_list.is_file() else [])
    skipped = {row.source for row in rows}.union(done)
    skipped |= {os.path.abspath(out / row.file) for row in rows}  # `out` may be among the sources
    todo = [source for source in expanded if source not in skipped]
    command = yt_dlp_command() if any(map(is_url, todo)) else []
    new_rows: list[ManifestRow] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(WORK + "*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        for source in todo:
            report = HarvestReport(source)
            with tempfile.TemporaryDirectory(prefix=WORK, dir=out) as folder:
                work = Path(folder)
                try:
                    path = download_video(source, command, work) if is_url(source) else Path(source)
                    cut = _cut(path, source, out, work, settings, report, on_progress)
                except InputError as e:
                    report.problem = message_with_source(e, work, source)
                else:
                    new_rows += cut
                    report.clips = len(cut)
                    write_manifest(manifest, [*rows, *new_rows])
                    done[source] = None
                    replace_file(done_list, "".join(f"{name}\n" for name in done))
            report.finished = True
            _send(on_progress, report)
    except OSError as e:
        raise write_error(out / MANIFEST, e) from e
    return new_rows
