"""Where a run writes: a video file, a folder of images, or a pipe.

    segments ──finish──> one file or folder ──check──> verified ──place──> under its own name

`make_plan` chooses one of the three. The pipe has no segments: its frames leave as they are made.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from sharpreel.errors import InputError, NothingToDoError, UsageError, VerificationError
from sharpreel.media import mux, verify, writer
from sharpreel.media.color import BT2020, RGB, default_matrix
from sharpreel.media.containers import CONTAINERS, choose_suffix
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import WHOLE_VIDEO, Frame, FrameSink, TimeRange, VideoInfo, time_range_of
from sharpreel.media.image_folder import ImageFolderWriter
from sharpreel.media.images import image_files
from sharpreel.media.mux import Assembly, Segment
from sharpreel.media.probe import open_input, transparent
from sharpreel.media.streams import StreamPlan
from sharpreel.media.y4m import Y4mWriter
from sharpreel.pipeline.encoding import encode_settings
from sharpreel.pipeline.inputs import PIPE
from sharpreel.pipeline.journal import SegmentRecord
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.system.files import fsync

Part = tuple[Path, SegmentRecord]  # a finished segment's file and its record
ShareCallback = Callable[[float], None]  # share that is done, 0 to 1


class Output(Protocol):
    """Where a run writes its frames.

    Attributes:
        path: The file or folder that the run makes.
        settings: How its frames are encoded.
        suffix: Of the container, such as ".mp4"; "" where there is none.
        streams: What becomes of the input's other streams.
        chapters: Chapters that are carried across.
    """

    @property
    def path(self) -> Path: ...
    @property
    def settings(self) -> EncodeSettings: ...
    @property
    def suffix(self) -> str: ...
    @property
    def streams(self) -> tuple[StreamPlan, ...]: ...
    @property
    def chapters(self) -> int: ...

    def moved(self, path: Path) -> Output:
        """The same output under another path."""
        ...

    def encoded_by(self, settings: EncodeSettings) -> Output:
        """The same output with other settings of the encoder."""
        ...

    def segment_name(self, number: int) -> str:
        """The name of a segment in the work folder."""
        ...

    def sink(self, part: Path) -> FrameSink:
        """Takes one segment's frames and makes `part` of them."""
        ...

    def finish(self, parts: Sequence[Part], folder: Path, on_share: ShareCallback) -> Path:
        """Join the segments and everything else to one file or folder below `folder`."""
        ...

    def check(self, finished: Path, records: Sequence[SegmentRecord]) -> None:
        """Raise VerificationError unless `finished` holds what the input held."""
        ...

    def place(self, finished: Path) -> None:
        """Move what is finished to `path`."""
        ...


@dataclass(frozen=True)
class VideoFileOutput:
    """A video file, with the input's other streams where it comes from a file.

    `source` is None for an input that was a pipe. `losses` are the differences to it, as
    `verify` reports them, that this kind of file cannot avoid.
    """

    path: Path
    settings: EncodeSettings
    suffix: str
    source: Path | None
    streams: tuple[StreamPlan, ...] = ()
    chapters: int = 0
    window: TimeRange = WHOLE_VIDEO
    display_matrix: tuple[int, ...] | None = None
    losses: tuple[str, ...] = ()

    def moved(self, path: Path) -> VideoFileOutput:
        return replace(self, path=path)

    def encoded_by(self, settings: EncodeSettings) -> VideoFileOutput:
        return replace(self, settings=settings)

    def segment_name(self, number: int) -> str:
        return f"seg-{number:05d}.mkv"

    def sink(self, part: Path) -> FrameSink:
        return writer.SegmentWriter(part, self.settings)

    def finish(self, parts: Sequence[Part], folder: Path, on_share: ShareCallback) -> Path:
        target = folder / f"finished{self.suffix}"
        segments = [Segment(path, record.pts, record.order) for path, record in parts]
        assembly = self._assembly(parts[-1][1].last_duration)
        mux.assemble(assembly, segments, target, on_share)
        fsync(target)
        return target

    def check(self, finished: Path, records: Sequence[SegmentRecord]) -> None:
        if self.source is None:
            return  # a pipe cannot be read again to compare with
        expected = replace(
            self._expected(),
            pts=[pts for record in records for pts in record.pts],
            last_duration=records[-1].last_duration,
        )
        found = verify.verify(self.source, finished, self.window, expected)
        differences = [d for d in found if d not in self.losses]
        if differences:
            raise VerificationError(
                f"{self.path}: not written, because it would not hold what {self.source} holds: "
                f"{'; '.join(differences[:3])}. The file is {finished}.",
                differences,
            )

    def place(self, finished: Path) -> None:
        os.replace(finished, self.path)

    def rehearsed(self, info: VideoInfo) -> VideoFileOutput:
        """This output with its `losses`, found by writing a tiny file and looking at it.

        No table knows which tag, flag or colour a muxer drops; the muxer does.
        """
        assert self.source is not None
        pts = max(info.start_pts, round(self.window.shift / info.time_base))
        with tempfile.TemporaryDirectory() as folder:
            small = replace(self.settings, width=64, height=64)
            encoder = writer.SegmentWriter(Path(folder) / "segment.mkv", small)
            step = round(1 / (info.rate * info.time_base)) or 1
            for k in range(4):  # a transport stream with fewer is not recognised
                encoder.write(Frame(np.zeros((64, 64, 3), np.uint8), pts + k * step))
            encoder.close()
            segment = Segment(encoder.path, encoder.pts, encoder.order)
            target = Path(folder) / f"rehearsal{self.suffix}"
            mux.assemble(self._assembly(1), [segment], target, rehearsal=True)
            losses = verify.compare_headers(self.source, target, self.window, self._expected())
        return replace(self, losses=tuple(losses))

    def _assembly(self, last_duration: int) -> Assembly:
        return Assembly(
            source=self.source,
            streams=self.streams,
            suffix=self.suffix,
            settings=self.settings,
            display_matrix=self.display_matrix,
            last_duration=last_duration,
            window=self.window,
        )

    def _expected(self) -> verify.Expected:
        return verify.Expected(
            streams=self.streams,
            aspect=self.settings.sample_aspect_ratio,
            color=self.settings.color,
        )


@dataclass(frozen=True)
class ImageFolderOutput:
    """A folder of PNG images.

    `names` are the images' file names by pts, for a folder of images; frames of a video are
    numbered.
    """

    path: Path
    settings: EncodeSettings
    names: tuple[str, ...] = ()
    suffix: str = field(default="", init=False)
    streams: tuple[StreamPlan, ...] = field(default=(), init=False)
    chapters: int = field(default=0, init=False)

    def moved(self, path: Path) -> ImageFolderOutput:
        return replace(self, path=path)

    def encoded_by(self, settings: EncodeSettings) -> ImageFolderOutput:
        return replace(self, settings=settings)

    def segment_name(self, number: int) -> str:
        return f"seg-{number:05d}"

    def sink(self, part: Path) -> FrameSink:
        return ImageFolderWriter(part, self.settings, dict(enumerate(self.names)))

    def finish(self, parts: Sequence[Part], folder: Path, on_share: ShareCallback) -> Path:
        """All images in one folder, linked, so that the segments stay until the end."""
        target = folder / "frames"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        count = 0
        for path, _ in parts:
            for image in sorted(path.iterdir()):
                # Frames of a video get their numbers here, where the count before is known.
                name = image.name if self.names else f"{count:08d}.png"
                try:
                    os.link(image, target / name)
                except OSError:
                    shutil.copy2(image, target / name)
                count += 1
        return target

    def check(self, finished: Path, records: Sequence[SegmentRecord]) -> None:
        written = {p.name for p in finished.iterdir()}
        wanted = sum(len(record.pts) for record in records)
        if len(written) != wanted or (self.names and written != set(self.names)):
            raise VerificationError(
                f"{finished}: {len(written)} images were written for {wanted} frames.",
                [f"{wanted} frames went in, {len(written)} came out"],
            )

    def place(self, finished: Path) -> None:
        """Move the folder to its path; into one that exists its images are moved."""
        if not self.path.is_dir():
            self.path.unlink(missing_ok=True)
            os.replace(finished, self.path)
            return
        for image in finished.iterdir():
            os.replace(image, self.path / image.name)


@dataclass(frozen=True)
class PipeOutput:
    """A y4m stream for the next program of a pipe. It has no segments and cannot be resumed.

    `fill` repeats a frame in place of those that were dropped after it.
    """

    stdout: IO[bytes]
    settings: EncodeSettings
    fill: bool = False
    path: Path = field(default=PIPE, init=False)
    suffix: str = field(default="", init=False)
    streams: tuple[StreamPlan, ...] = field(default=(), init=False)
    chapters: int = field(default=0, init=False)

    def moved(self, path: Path) -> PipeOutput:
        raise UsageError("A pipe has no path.")

    def encoded_by(self, settings: EncodeSettings) -> PipeOutput:
        return replace(self, settings=settings)

    def segment_name(self, number: int) -> str:
        return "-"

    def sink(self, part: Path) -> FrameSink:
        return Y4mWriter(self.stdout, self.settings, self.fill)

    def finish(self, parts: Sequence[Part], folder: Path, on_share: ShareCallback) -> Path:
        return self.path

    def check(self, finished: Path, records: Sequence[SegmentRecord]) -> None:
        """Nothing can be checked: the next program has the frames already."""

    def place(self, finished: Path) -> None:
        """Nothing to move."""


@contextmanager
def work_folder_of_pipe(output: Output) -> Iterator[Path]:
    """A folder for a run that cannot be resumed, next to its output, and removed with the run.

    It is not the folder of a run from a file to the same name, which may be resumed later.
    """
    if output.path == PIPE:
        yield output.path
        return
    folder = tempfile.mkdtemp(prefix=f"{output.path.name}.", suffix=".pipe", dir=output.path.parent)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Planning ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What an output is planned from; sizes are (width, height) as stored."""

    source: Path
    output: Path | None
    options: UpscaleOptions
    info: VideoInfo
    size: tuple[int, int]  # of the output
    enlarged: tuple[int, int]  # of the network's frames
    suffix: str  # of the name: "_reel_x2"


def plan_pipe(request: Request, stdout: IO[bytes] | None) -> tuple[PipeOutput, list[str]]:
    """A y4m stream to `stdout`, and the notes about it."""
    if stdout is None:
        raise UsageError("output='-': writing a pipe needs stdout.")
    settings = encode_settings(request.options, request.info, request.size, ".mp4")
    return PipeOutput(stdout, as_read(settings), fill=request.options.live), []


def as_read(settings: EncodeSettings) -> EncodeSettings:
    """The same settings in the colour matrix that readers assume for y4m of this size.

    y4m cannot state one. Wide gamuts keep theirs: another matrix would not make them narrow.
    """
    color = settings.color
    if color.matrix == BT2020:
        return settings
    matrix = default_matrix(settings.width, settings.height)
    return replace(settings, color=replace(color, matrix=matrix))


def plan_image_folder(request: Request) -> tuple[ImageFolderOutput, list[str]]:
    """A folder of PNG images, and the notes about it.

    Raises:
        InputError: Two input images would get one name.
    """
    info, source, path = request.info, request.source, request.output
    if path is None:
        whole = Path(os.path.abspath(source))  # "." has no name
        path = whole.with_name(f"{whole.name}{request.suffix}")
    settings = EncodeSettings(
        codec="png",
        pix_fmt="rgb48le" if info.bits > 8 else "rgb24",
        width=request.size[0],
        height=request.size[1],
        crf=None,
        preset=None,
        color=replace(info.color, matrix=RGB, full_range=True),
        rate=info.rate,
        time_base=info.time_base,
    )
    names = tuple(f"{p.stem}.png" for p in image_files(source)) if source.is_dir() else ()
    if len(set(names)) != len(names):
        raise InputError(f"{source}: two images would get the same name; keep one kind of file.")
    notes = []
    if path.is_dir():
        others = sum(1 for p in path.iterdir() if p.name not in names)
        if others:
            notes.append(f"{path} holds {others} other files, which stay there")
    if info.alpha:
        notes.append("transparency is enlarged bicubically and kept")
    if not source.is_dir():
        notes.append("frames become numbered PNG images; sound and timestamps are not kept")
    validate_output(source, path, request.options)
    return ImageFolderOutput(path, settings, names), notes


def plan_video_file(request: Request) -> tuple[VideoFileOutput, list[str]]:
    """A video file with the input's other streams, and the notes about it."""
    info, options, output = request.info, request.options, request.output
    if info.alpha:
        raise InputError(transparent(str(request.source)))
    if request.source == PIPE:
        return _plan_video_of_pipe(request), []
    folder = output if output is not None and output.is_dir() else None

    def settings_for(suffix: str) -> EncodeSettings:
        return encode_settings(options, info, request.size, suffix)

    wanted = None if output is None or folder else output.suffix.lower()
    with open_input(request.source) as container:
        suffix, streams, moved = choose_suffix(
            container, info, settings_for, wanted, options.allow_audio_transcode
        )
        chapters = len(container.chapters())
    if output is None or folder is not None:
        name = request.source.with_name(f"{request.source.stem}{request.suffix}{suffix}")
        output = name if folder is None else folder / name.name
    video = VideoFileOutput(
        path=output,
        settings=settings_for(suffix),
        suffix=suffix,
        source=request.source,
        streams=tuple(streams),
        chapters=chapters,
        window=time_range_of(info, options.start, options.end),
        display_matrix=info.display_matrix,
    )
    validate_output(request.source, output, options)
    video = video.rehearsed(info)
    losses = [f"cannot be kept in {suffix}: {loss}" for loss in video.losses]
    return video, [*_container_notes(video, info, moved), *losses]


def _plan_video_of_pipe(request: Request) -> VideoFileOutput:
    """A video file of a pipe's frames: there are no other streams."""
    output = request.output
    assert output is not None  # `make_plan` has seen to that
    suffix = output.suffix.lower()
    info, options = request.info, request.options
    validate_output(request.source, output, options)
    return VideoFileOutput(
        path=output,
        settings=encode_settings(options, info, request.size, suffix),
        suffix=suffix,
        source=None,
        window=time_range_of(info, options.start, options.end),
        display_matrix=info.display_matrix,
    )


def _container_notes(output: VideoFileOutput, info: VideoInfo, moved: str) -> list[str]:
    """What the container cannot hold as it was, and what happens to each such stream."""
    notes = []
    if moved:
        notes.append(f"the output is {output.suffix}: {moved}")
    unit = CONTAINERS[output.suffix][1]
    if unit is not None and (info.time_base / unit).denominator != 1:
        step = f"1/{unit.denominator} s"
        notes.append(f"{output.suffix} stores times in steps of {step}: rounded to that")
    verb = {"drop": "cannot be kept", "transcode": "is re-encoded", "convert": "is converted"}
    for stream in output.streams:
        if stream.action in verb:
            name = f"{stream.kind} stream {stream.index} ({stream.codec})"
            notes.append(f"{name} {verb[stream.action]}: {stream.why}")
    return notes


def validate_output(source: Path, output: Path, options: UpscaleOptions) -> None:
    """Refuse an output that would overwrite something or cannot be written.

    Raises:
        UsageError: It exists, is the input, or its folder is not there or not writable.
        NothingToDoError: It exists and `skip_existing` is set.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"{output}: the output is the input. Choose another `output`.")
    if output.exists() and options.skip_existing:
        raise NothingToDoError(f"{output} exists")
    if output.exists() and not options.overwrite:
        raise UsageError(f"{output} exists. Give `overwrite`, `skip_existing` or another `output`.")
    folder = output.parent
    if not folder.is_dir():
        raise UsageError(f"{output}: the folder {folder} does not exist.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise UsageError(f"{output}: {folder} cannot be written to ({e.strerror}).") from e
