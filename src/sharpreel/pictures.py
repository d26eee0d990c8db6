"""A side door: folders of pictures instead of a video file.

Pictures are read and written by FFmpeg's own PNG and JPEG codecs, 16 bits and alpha included; the
network sees their colours, the alpha is enlarged bicubically.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel import engine, images, mux, ops, plan, video
from sharpreel.errors import InputError, UsageError, VerificationError, write_error
from sharpreel.images import encode_png, picture_files, read_picture
from sharpreel.journal import Journal
from sharpreel.ops import Frame as Pixels
from sharpreel.plan import Options, Plan
from sharpreel.video import Frame, ReadReport, VideoInfo


def means_folder(output: Path) -> bool:
    """Does this output name mean a folder of pictures? One without suffix that is not there yet."""
    return output.suffix == "" and not output.is_dir()


def probe_folder(folder: Path) -> VideoInfo:
    """Describe a folder of pictures as the video that it is.

    Its size and colours are the first picture's, its depth that of the deepest one.

    Raises:
        InputError: There are none, or of several sizes.
    """
    files = picture_files(folder)
    if not files:
        raise InputError(f"{folder}: no videos and no PNG or JPEG pictures in this folder.")
    info = images.info_of(read_picture(files[0]), files[0], folder, len(files))
    for path in files[1:]:
        header = images.header_of(path)
        if header is None:
            continue  # said when it is read
        if {header.width, header.height} != {info.width, info.height}:
            raise _other_size(path, (header.width, header.height), info)
        info = replace(info, bits=max(info.bits, header.bits), alpha=info.alpha or header.alpha)
    return info


def _other_size(path: Path, size: tuple[int, int], info: VideoInfo) -> InputError:
    return InputError(
        f"{path}: is {size[0]}x{size[1]}, the pictures before it are {info.width}x{info.height}. "
        "All must have one size."
    )


class PictureReader:
    """The pictures of a folder as frames; pts counts them from 0."""

    def __init__(self, info: VideoInfo, start_pts: int | None = None) -> None:
        self.info, self.report = info, ReadReport()
        self._files = picture_files(Path(info.path))
        self._start = start_pts or 0

    def __iter__(self) -> Iterator[Frame]:
        info = self.info
        convert = video.to_rgb(info, info.alpha)
        for index, path in enumerate(self._files[self._start :], self._start):
            raw = read_picture(path)
            matrix = images.orientation_of(raw)
            raw.pts, raw.time_base = index, info.time_base
            convert.push(raw)
            for ready in convert.pull():
                pixels, alpha = video.split_alpha(ready, info.alpha)
                pixels = video.upright(pixels, matrix)
                if pixels.shape[:2] != (info.height, info.width):
                    raise _other_size(path, (pixels.shape[1], pixels.shape[0]), info)
                if alpha is not None:
                    alpha = video.upright(alpha, matrix)
                self.report.decoded += 1
                yield Frame(pixels, index, 1, key=False, alpha=alpha)


class PngWriter:
    """One segment's pictures as PNG files in a folder of their own.

    Args:
        folder: Made when it is not there.
        names: A file name for each pts.
    """

    def __init__(self, folder: Path, settings: video.EncodeSettings, names: dict[int, str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.pts: list[int] = []
        self.order: list[int] = []
        self._folder, self._names = folder, names
        self._size = (settings.width, settings.height)
        self._settings = settings
        self._resize = video.from_rgb(settings)

    def write(self, frame: Frame) -> None:
        self.order.append(len(self.pts))
        self.pts.append(frame.pts)
        pixels = frame.pixels
        if (pixels.shape[1], pixels.shape[0]) != self._size or frame.alpha is not None:
            pixels = self._exact(frame)
        name = self._names.get(frame.pts) or f"{frame.pts:08d}.png"
        try:
            (self._folder / name).write_bytes(encode_png(pixels))
        except OSError as e:
            raise write_error(self._folder / name, e) from e

    def _exact(self, frame: Frame) -> Pixels:
        """The picture at the size asked for, with its alpha as a fourth channel."""
        width, height = self._size
        pixels = ops.resize(frame.pixels, height, width)
        if frame.alpha is None:
            return pixels
        return np.concatenate([pixels, ops.resize(frame.alpha, height, width)], axis=2)

    def close(self) -> None:
        """Nothing to flush: each file is whole when it is written."""

    def abandon(self) -> None:
        """The folder is thrown away when the segment is begun again."""


@dataclass(frozen=True)
class PicturesPlan(Plan):
    """A run whose output is a folder of PNG pictures.

    `names` maps pts to file name for a folder of pictures; frames of a video are named by count.
    """

    names: tuple[str, ...] = ()

    def reader(self, start_pts: int | None = None) -> Any:
        if self.source.is_dir():
            return PictureReader(self.info, start_pts)
        return video.VideoReader(self.info, start_pts, self.options.strict, alpha=self.info.alpha)

    def segment_name(self, number: int) -> str:
        return f"seg-{number:05d}"

    def sink(self, part: Path) -> PngWriter:
        return PngWriter(part, self.settings, dict(enumerate(self.names)))

    def finish(self, work: Journal, tell: Any) -> Path:
        """All pictures in one folder, linked, so that the segments stay until the end."""
        folder = work.path("frames")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        count = 0
        for entry in work.entries:
            for picture in sorted((work.path(entry.name)).iterdir()):
                # Frames of a video are numbered in the end, when their count is known to all.
                name = picture.name if self.names else f"{count:08d}.png"
                try:
                    os.link(picture, folder / name)
                except OSError:
                    shutil.copy2(picture, folder / name)
                count += 1
        return folder

    def check(self, finished: Path, work: Journal) -> None:
        made = {p.name for p in finished.iterdir()}
        wanted = sum(len(e.pts) for e in work.entries)
        if len(made) != wanted or (self.names and made != set(self.names)):
            raise VerificationError(
                f"{finished}: {len(made)} pictures were made for {wanted} frames.",
                [f"{wanted} frames went in, {len(made)} came out"],
            )

    def place(self, finished: Path) -> None:
        """Give the finished folder its name; into one that is there the pictures are put."""
        if not self.output.is_dir():
            self.output.unlink(missing_ok=True)
            os.replace(finished, self.output)
            return
        for picture in finished.iterdir():
            os.replace(picture, self.output / picture.name)


def make_plan(source: Path, output: Path | None, options: Options) -> PicturesPlan:
    """Plan a run from a folder of pictures, or from a video to one.

    Raises:
        InputError, UsageError, plan.NothingToDo: As `plan.make_plan`.
    """
    plan.check_options(options)
    folder = source.is_dir()
    if folder and output is not None and output.suffix.lower() in mux.CONTAINERS:
        raise UsageError(
            f"{output}: a folder of pictures becomes a folder; give -o without suffix."
        )
    info = probe_folder(source) if folder else video.probe(source)
    model = plan.choose_model(options, *info.shown_size)
    engine.check_tile(model, options.tile)
    scale = model.scale
    width, height = plan.target_size(options, info, scale)
    plan.check_sides(source, info, (width, height), scale)
    if output is None:
        whole = Path(os.path.abspath(source))  # "." has no name
        output = whole.with_name(f"{whole.name}_{model.name}_x{scale}")
    settings = video.EncodeSettings(
        codec="png",
        pix_fmt="rgb48le" if info.bits > 8 else "rgb24",
        width=width,
        height=height,
        crf=None,
        preset=None,
        color=replace(info.color, matrix=video.RGB, full_range=True),
        rate=info.rate,
        time_base=info.time_base,
    )
    files = picture_files(source) if folder else []
    names = tuple(f"{p.stem}.png" for p in files)
    if len(set(names)) != len(names):
        raise InputError(f"{source}: two pictures would get the same name; keep one kind of file.")
    notes = []
    if output.is_dir():
        others = sum(1 for path in output.iterdir() if path.name not in names)
        if others:
            notes.append(f"{output} holds {others} other files, which stay there")
    if info.alpha:
        notes.append("transparency is enlarged bicubically and kept")
    if not folder:
        notes.append("frames become numbered PNG pictures; sound and timestamps are not kept")
    made = PicturesPlan(
        source=source,
        output=output,
        options=options,
        info=info,
        model=model,
        settings=settings,
        streams=(),
        suffix="",
        chapters=0,
        notes=tuple(notes),
        names=names,
    )
    plan.check_output(source, output, options)
    return made
