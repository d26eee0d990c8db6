"""Folders of small images for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.pipeline.stages import Result
from sharpreel.upscale import upscale_video
from tests.support.videos import Pixels, png


def enlarge(source: Path, output: Path | None = None, **options: Any) -> Result:
    return upscale_video(source, output, **{"model": "bicubic"} | options)


def folder_of(folder: Path, images: list[Pixels], names: list[str]) -> Path:
    folder.mkdir()
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(png(image))
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def near(a: Pixels, b: Pixels, levels: int) -> bool:
    """Bicubic by the engine and by `ops.resize` round in different places."""
    return bool(np.abs(a.astype(int) - b.astype(int)).max() <= levels)
