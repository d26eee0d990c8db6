"""Short calls of the product for tests of single parts: read, plan and upscale with bicubic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpreel.media.frame import Frame
from sharpreel.media.probe import probe
from sharpreel.media.reader import ReadReport, VideoReader
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.pipeline.stages import Result
from sharpreel.upscale import upscale_video


def enlarge(source: Path, output: Path | None = None, **options: Any) -> Result:
    """Upscale by bicubic, with the fastest preset."""
    return upscale_video(source, output, **{"model": "bicubic", "preset": "ultrafast"} | options)


def planned(source: Path, output: Path | None = None, **options: Any) -> Plan:
    """The plan to upscale by bicubic."""
    return make_plan(source, output, UpscaleOptions(model="bicubic", **options))


def read(path: Path, **options: Any) -> tuple[list[Frame], ReadReport]:
    """All frames of a video, and the report on reading them."""
    reader = VideoReader(probe(path), **options)
    return list(reader), reader.report
