"""Folders of numbered images as a video: reader and writer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from sharpreel import ops
from sharpreel.errors import InputError, write_error
from sharpreel.media import images
from sharpreel.media.convert import from_rgb, split_alpha, to_rgb
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.images import encode_png, image_files, read_image
from sharpreel.media.reader import ReadReport
from sharpreel.media.side_data import upright
from sharpreel.ops import Pixels


def means_folder(output: Path) -> bool:
    """Does this output name mean a folder of pictures? One without suffix that is not there yet."""
    return output.suffix == "" and not output.is_dir()


def probe_folder(folder: Path) -> VideoInfo:
    """Describe a folder of pictures as the video that it is.

    Its size and colours are the first picture's, its depth that of the deepest one.

    Raises:
        InputError: There are none, or of several sizes.
    """
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder}: no videos and no PNG or JPEG pictures in this folder.")
    info = images.info_of(read_image(files[0]), files[0], folder, len(files))
    for path in files[1:]:
        header = images.header_of(path)
        if header is None:
            continue  # said when it is read
        if {header.width, header.height} != {info.width, info.height}:
            raise size_error(path, (header.width, header.height), info)
        info = replace(info, bits=max(info.bits, header.bits), alpha=info.alpha or header.alpha)
    return info


def size_error(path: Path, size: tuple[int, int], info: VideoInfo) -> InputError:
    return InputError(
        f"{path}: is {size[0]}x{size[1]}, the pictures before it are {info.width}x{info.height}. "
        "All must have one size."
    )


class ImageFolderReader:
    """The pictures of a folder as frames; pts counts them from 0."""

    def __init__(self, info: VideoInfo, start_pts: int | None = None) -> None:
        self.info, self.report = info, ReadReport()
        self._files = image_files(Path(info.path))
        self._start = start_pts or 0

    def __iter__(self) -> Iterator[Frame]:
        info = self.info
        convert = to_rgb(info, info.alpha)
        for index, path in enumerate(self._files[self._start :], self._start):
            raw = read_image(path)
            matrix = images.orientation_of(raw)
            raw.pts, raw.time_base = index, info.time_base
            convert.push(raw)
            for ready in convert.pull():
                pixels, alpha = split_alpha(ready, info.alpha)
                pixels = upright(pixels, matrix)
                if pixels.shape[:2] != (info.height, info.width):
                    raise size_error(path, (pixels.shape[1], pixels.shape[0]), info)
                if alpha is not None:
                    alpha = upright(alpha, matrix)
                self.report.decoded += 1
                yield Frame(pixels, index, 1, key=False, alpha=alpha)


class ImageFolderWriter:
    """One segment's pictures as PNG files in a folder of their own.

    Args:
        folder: Made when it is not there.
        names: A file name for each pts.
    """

    def __init__(self, folder: Path, settings: EncodeSettings, names: dict[int, str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.pts: list[int] = []
        self.order: list[int] = []
        self._folder, self._names = folder, names
        self._size = (settings.width, settings.height)
        self._settings = settings
        self._resize = from_rgb(settings)

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
