"""A folder of images as a video: `ImageFolderReader` and `ImageFolderWriter`.

PNG and JPEG files are read in the order of their names, numbers compared as numbers; PNG files are
written. Depth (16 bits) and transparency are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from sharpreel import ops
from sharpreel.errors import InputError, write_error
from sharpreel.media import images
from sharpreel.media.convert import split_alpha, to_rgb
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.images import encode_png, image_files, read_image
from sharpreel.media.reader import ReadReport
from sharpreel.media.side_data import upright
from sharpreel.ops import Pixels


def means_folder(output: Path) -> bool:
    """Does this output name mean a folder of images: no suffix, and no existing folder?"""
    return output.suffix == "" and not output.is_dir()


def probe_folder(folder: Path) -> VideoInfo:
    """Describe a folder of images as a video.

    Size and colours are those of the first image, the depth is that of the deepest one.

    Raises:
        InputError: There are no images, or their sizes differ.
    """
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder}: no videos and no PNG or JPEG images in this folder.")
    info = images.info_of(read_image(files[0]), files[0], folder, len(files))
    for path in files[1:]:
        header = images.header_of(path)
        if header is None:
            continue  # reported when it is read
        if {header.width, header.height} != {info.width, info.height}:
            raise size_error(path, (header.width, header.height), info)
        info = replace(info, bits=max(info.bits, header.bits), alpha=info.alpha or header.alpha)
    return info


def size_error(path: Path, size: tuple[int, int], info: VideoInfo) -> InputError:
    """The error for an image whose (width, height) is not that of the images before it."""
    return InputError(
        f"{path}: is {size[0]}x{size[1]}, the images before it are {info.width}x{info.height}. "
        "All must have the same size."
    )


class ImageFolderReader:
    """Yields the images of a folder as frames; pts counts them from 0.

    Args:
        info: From `probe_folder`.
        start_pts: Skip the images before this number.
    """

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
            for converted in convert.pull():
                pixels, alpha = split_alpha(converted, info.alpha)
                pixels = upright(pixels, matrix)
                if pixels.shape[:2] != (info.height, info.width):
                    raise size_error(path, (pixels.shape[1], pixels.shape[0]), info)
                if alpha is not None:
                    alpha = upright(alpha, matrix)
                self.report.decoded += 1
                yield Frame(pixels, index, 1, key=False, alpha=alpha)


class ImageFolderWriter:
    """Writes the frames of one segment as PNG files into a folder.

    Args:
        folder: Created; one that exists is replaced.
        settings: The size of the images.
        names: A file name for each pts; a frame without one is numbered by its pts.
    """

    def __init__(self, folder: Path, settings: EncodeSettings, names: dict[int, str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.pts: list[int] = []
        self.order: list[int] = []
        self._folder, self._names = folder, names
        self._size = (settings.width, settings.height)

    def write(self, frame: Frame) -> None:
        self.order.append(len(self.pts))
        self.pts.append(frame.pts)
        pixels = frame.pixels
        if (pixels.shape[1], pixels.shape[0]) != self._size or frame.alpha is not None:
            pixels = self._resized(frame)
        name = self._names.get(frame.pts) or f"{frame.pts:08d}.png"
        try:
            (self._folder / name).write_bytes(encode_png(pixels))
        except OSError as e:
            raise write_error(self._folder / name, e) from e

    def _resized(self, frame: Frame) -> Pixels:
        """The frame at the size of the settings, with its alpha as a fourth channel."""
        width, height = self._size
        pixels = ops.resize(frame.pixels, height, width)
        if frame.alpha is None:
            return pixels
        return np.concatenate([pixels, ops.resize(frame.alpha, height, width)], axis=2)

    def close(self) -> None:
        """Do nothing: each file is complete as soon as it is written."""

    def abandon(self) -> None:
        """Do nothing: the folder is replaced when the segment starts again."""
