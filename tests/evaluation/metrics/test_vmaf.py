"""VMAF by FFmpeg."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pytest

from sharpreel.errors import InputError, MissingExtra, UsageError
from sharpreel.evaluation.metrics.vmaf import vmaf
from tests.support.photos import blurred
from tests.support.videos import Pixels, moving, write_frames

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def clip(path: Path, frames: list[Pixels], **more: object) -> Path:
    return write_frames(path, frames, options=LOSSLESS, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips: it's [odd], 100%")
    frames = list(moving((160, 120), 50))
    uneven = [3600 * t + 700 * (t % 3) for t in range(len(frames))]
    return {
        "reference": clip(folder / "reference.mkv", frames),
        "blurred": clip(folder / "blurred.mkv", [blurred(f, 1) for f in frames]),
        "worse": clip(folder / "worse.mkv", [blurred(f, 2) for f in frames]),
        "timed": clip(folder / "timed.mp4", frames, pts=uneven, time_base=Fraction(1, 90000)),
        "deep": clip(folder / "deep.mkv", frames, codec="ffv1", pix_fmt="yuv420p10le"),
        "short": clip(folder / "short.mkv", frames[:-1]),
        "small": clip(folder / "small.mkv", [f[:-2] for f in frames]),
    }


def test_vmaf_of_the_reference_is_near_100_and_falls_with_blur(clips: dict[str, Path]) -> None:
    values = [vmaf(clips[k], clips["reference"], 2) for k in ("reference", "blurred", "worse")]
    assert all(set(v) == {"vmaf", "vmaf_neg"} for v in values)
    for name in ("vmaf", "vmaf_neg"):
        same, soft, softer = (v[name] for v in values)
        assert 95 < same <= 100
        assert softer < soft - 5 < same - 10


def test_vmaf_compares_frames_in_order_whatever_their_timestamps(clips: dict[str, Path]) -> None:
    assert vmaf(clips["timed"], clips["reference"]) == vmaf(
        str(clips["reference"]), clips["reference"]
    )


def test_vmaf_compares_across_bit_depths(clips: dict[str, Path]) -> None:
    assert vmaf(clips["deep"], clips["reference"])["vmaf"] > 95


def test_vmaf_of_mismatched_files_is_rejected(clips: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"160x118 and .*reference.mkv is 160x120"):
        vmaf(clips["small"], clips["reference"])
    with pytest.raises(UsageError, match=r"has 49 frames and .*reference.mkv has 50"):
        vmaf(clips["short"], clips["reference"])
    with pytest.raises(InputError, match="no such file"):
        vmaf(clips["reference"], "gone.mp4")


def test_vmaf_without_its_ffmpeg_names_the_extra(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtra, match=r"sharpreel\[train\]"):
        vmaf(clips["reference"], clips["reference"])
