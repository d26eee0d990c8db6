"""Where a run's frames come from: a video file, a folder of images, or a pipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol

from sharpreel.errors import InputError, UsageError
from sharpreel.media import reader as video_reader
from sharpreel.media.frame import VideoInfo
from sharpreel.media.image_folder import ImageFolderReader, probe_folder
from sharpreel.media.images import image_files
from sharpreel.media.probe import VIDEO_SUFFIXES, probe
from sharpreel.media.reader import FrameSource
from sharpreel.media.y4m import Y4mReader
from sharpreel.models import MODELS

PIPE = Path("-")  # standard input or output


class Input(Protocol):
    """An input that was looked at, and can be read from any of its frames on."""

    @property
    def info(self) -> VideoInfo: ...

    def open(self, start_pts: int | None = None) -> FrameSource:
        """The frames from the first of at least `start_pts`; None: from the beginning."""
        ...

    def moved(self, path: Path) -> Input:
        """The same input under another path."""
        ...


@dataclass(frozen=True)
class VideoFileInput:
    """A video file.

    `strict` stops at the first frame that does not decode; `alpha` delivers transparency too.
    """

    info: VideoInfo
    strict: bool = False
    alpha: bool = False

    def open(self, start_pts: int | None = None) -> FrameSource:
        return video_reader.VideoReader(self.info, start_pts, self.strict, alpha=self.alpha)

    def moved(self, path: Path) -> VideoFileInput:
        return replace(self, info=replace(self.info, path=str(path)))


@dataclass(frozen=True)
class ImageFolderInput:
    """A folder of numbered images."""

    info: VideoInfo

    def open(self, start_pts: int | None = None) -> FrameSource:
        return ImageFolderReader(self.info, start_pts)

    def moved(self, path: Path) -> ImageFolderInput:
        return replace(self, info=replace(self.info, path=str(path)))


@dataclass(frozen=True)
class PipeInput:
    """A y4m stream, which can be read once and from its beginning only."""

    reader: Y4mReader

    @property
    def info(self) -> VideoInfo:
        return self.reader.info

    def open(self, start_pts: int | None = None) -> FrameSource:
        return self.reader

    def moved(self, path: Path) -> PipeInput:
        raise UsageError("A pipe can be read by the process that it belongs to, and no other.")


def open_source(source: Path, strict: bool, alpha: bool, stdin: IO[bytes] | None) -> Input:
    """The input that a path means: "-" for y4m from `stdin`, a folder of images, or a video.

    Args:
        alpha: The output can hold transparency; without it a transparent video is refused later.

    Raises:
        InputError: It is missing, unreadable, or of a kind that sharpreel does not take.
    """
    if source == PIPE:
        if stdin is None:
            raise UsageError("source='-': reading a pipe needs stdin.")
        return PipeInput(Y4mReader(stdin))
    if source.is_dir():
        return ImageFolderInput(probe_folder(source))
    info = probe(source)
    return VideoFileInput(info, strict, alpha and info.alpha)


def find_inputs(
    source: Path, output: Path | None = None, recursive: bool = False
) -> list[tuple[Path, Path | None]]:
    """The (input, output) pairs that a path means; folders for the outputs are created.

    A folder with videos means each of them, with its tree kept below the output folder. A folder
    of images is one input. Outputs of earlier runs are no inputs.

    Raises:
        InputError: The folder holds nothing to upscale.
        UsageError: There are several videos and `output` is a file, or a folder cannot be created.
    """
    if not source.is_dir():
        return [(source, output)]
    videos = _videos_in(source, recursive)
    if not videos:
        if image_files(source):
            return [(source, output)]
        below = "" if recursive else " (subfolders are searched with recursive=True)"
        raise InputError(f"{source}: no videos and no PNG or JPEG images in this folder{below}.")
    if output is None or output.resolve() == source.resolve():
        made = {f"_{name}_x{s}" for name, spec in MODELS.items() for s in spec.scales}
        return [(p, None) for p in videos if not any(p.stem.endswith(end) for end in made)]
    if source.resolve() in output.resolve().parents:
        videos = [p for p in videos if output.resolve() not in p.resolve().parents]
    if output.suffix and not output.is_dir():
        raise UsageError(f"{output}: several videos need a folder; give `output` without suffix.")
    return [(path, _created(output / path.parent.relative_to(source))) for path in videos]


def _videos_in(folder: Path, recursive: bool) -> list[Path]:
    """Video files of a folder by name, without hidden ones and those of unfinished runs."""
    return sorted(
        path
        for path in (folder.rglob("*") if recursive else folder.iterdir())
        if path.suffix.lower() in VIDEO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not any(part.endswith(".sharpreel") for part in path.parts)
    )


def _created(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UsageError(f"{folder}: this folder cannot be created ({e.strerror}).") from e
    return folder
