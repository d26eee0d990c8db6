"""Videos and images with known content, for the tests of the data package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sharpreel.data import harvest
from sharpreel.data.clip_quality import HarvestSettings
from sharpreel.data.harvest import (
    HarvestReport,
)
from sharpreel.data.manifest import ManifestRow
from sharpreel.media import images
from tests.support.videos import (
    Pixels,
    moving,
    write_frames,
)


def save_named_images(folder: Path, names: list[str], size: tuple[int, int] = (32, 24)) -> None:
    folder.mkdir(parents=True)
    for name, pixels in zip(names, moving(size, len(names)), strict=True):
        images.write_png(folder / name, pixels)


SIZE = (192, 128)


SMALL = HarvestSettings(clip_len=5, height=64, preset="veryfast")


def texture(seed: int, size: tuple[int, int] = (512, 384)) -> npt.NDArray[np.float64]:
    """Patches of several sizes about a middle grey, (H, W, 3), 30 to 220."""
    rng = np.random.default_rng(seed)
    width, height = size
    frame = np.zeros((height, width, 3))
    for patch, weight in ((64, 45.0), (16, 45.0), (5, 35.0)):
        rough = rng.uniform(-1, 1, (height // patch + 2, width // patch + 2, 1))
        rough = rough + 0.2 * rng.uniform(-1, 1, (*rough.shape[:2], 3))
        frame += weight * rough.repeat(patch, 0).repeat(patch, 1)[:height, :width]
    near = [np.roll(frame, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    brightness = 150 if seed % 2 else 100
    soft: npt.NDArray[np.float64] = np.clip(brightness + np.mean(near, axis=0), 30, 220)
    return soft


def pan(
    frames: int, seed: int = 0, step: int = 2, size: tuple[int, int] = SIZE
) -> Iterator[Pixels]:
    """A window that moves over a texture, by `step` pixels a frame."""
    width, height = size
    whole = texture(seed, (width + step * frames, height + frames))
    for t in range(frames):
        yield np.rint(whole[t : t + height, step * t : step * t + width]).astype(np.uint8)


def faint(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    """The same with half the contrast, which has half the motion too."""
    return ((frame // 2 + 60).astype(np.uint8) for frame in frames)


def dark(frames: int) -> Iterator[Pixels]:
    return ((frame // 16).astype(np.uint8) for frame in pan(frames))


def video(path: Path, *stretches: Iterable[Pixels], rate: int = 25, **more: Any) -> Path:
    """The stretches one after the other, losslessly coded."""
    frames = [frame for stretch in stretches for frame in stretch]
    options = {"qp": "0", "preset": "ultrafast"}
    return write_frames(path, frames, rate=rate, options=options, **more)


def reports_of(
    sources: Iterable[str | Path], out: Path, settings: HarvestSettings = SMALL
) -> tuple[list[ManifestRow], list[HarvestReport]]:
    """The rows of a run, and the last report about each source."""
    reports: list[HarvestReport] = []
    rows = harvest.harvest(sources, out, settings, reports.append)
    return rows, [report for report in reports if report.finished]
