"""Runs that are stopped and resumed, and what they leave on the disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sharpreel as api
from sharpreel.pipeline.stages import Progress
from sharpreel.upscale import upscale_video

SMALL = "reel-fast"  # as any causal network, and in the least time
FRAMES, SEGMENT = 48, 0.24  # a segment of 6 frames, shorter than the warm-up of that network
UNEVEN = np.cumsum([3600, 1800, 7200, 3000, 4500, 3600] * (FRAMES // 6)).tolist()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def work_folder(output: Path) -> Path:
    return output.with_name(output.name + ".sharpreel")


def journalled(output: Path) -> list[dict[str, Any]]:
    text = (work_folder(output) / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


class Stop(Exception):
    """What a caller's callback raises to end a run."""


def stop_at(source: Path, output: Path, event: str, times: int = 1, **options: Any) -> None:
    """Stop a run by an exception in its callback, at the n-th (`times`) event of this name."""
    seen = 0

    def callback(progress: Progress) -> None:
        nonlocal seen
        seen += progress.event == event
        if seen == times:
            raise Stop

    options = {"model": "bicubic", "segment_seconds": SEGMENT, **options}
    with pytest.raises(Stop):
        upscale_video(source, output, on_progress=callback, **options)


def resume(source: Path, output: Path, **options: Any) -> tuple[api.Result, list[Progress]]:
    seen: list[Progress] = []
    options = {"model": "bicubic", "segment_seconds": SEGMENT, **options}
    return upscale_video(source, output, on_progress=seen.append, **options), seen
