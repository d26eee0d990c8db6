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
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films: it's [odd], 100%")
    frames = list(moving((160, 120), 50))
    uneven = [3600 * t + 700 * (t % 3) for t in range(len(frames))]
    return {
        "truth": clip(folder / "truth.mkv", frames),
        "blurred": clip(folder / "blurred.mkv", [blurred(f, 1) for f in frames]),
        "worse": clip(folder / "worse.mkv", [blurred(f, 2) for f in frames]),
        "timed": clip(folder / "timed.mp4", frames, pts=uneven, time_base=Fraction(1, 90000)),
        "deep": clip(folder / "deep.mkv", frames, codec="ffv1", pix_fmt="yuv420p10le"),
        "short": clip(folder / "short.mkv", frames[:-1]),
        "small": clip(folder / "small.mkv", [f[:-2] for f in frames]),
    }


def test_vmaf_of_the_reference_is_near_100_and_falls_with_blur(films: dict[str, Path]) -> None:
    values = [vmaf(films[k], films["truth"], 2) for k in ("truth", "blurred", "worse")]
    assert all(set(v) == {"vmaf", "vmaf_neg"} for v in values)
    for name in ("vmaf", "vmaf_neg"):
        same, soft, softer = (v[name] for v in values)
        assert 95 < same <= 100
        assert softer < soft - 5 < same - 10


def test_vmaf_compares_frames_in_order_whatever_their_timestamps(films: dict[str, Path]) -> None:
    assert vmaf(films["timed"], films["truth"]) == vmaf(str(films["truth"]), films["truth"])


def test_vmaf_compares_across_bit_depths(films: dict[str, Path]) -> None:
    assert vmaf(films["deep"], films["truth"])["vmaf"] > 95


def test_vmaf_of_mismatched_files_is_rejected(films: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"160x118 and .*truth.mkv is 160x120"):
        vmaf(films["small"], films["truth"])
    with pytest.raises(UsageError, match=r"has 49 frames and .*truth.mkv has 50"):
        vmaf(films["short"], films["truth"])
    with pytest.raises(InputError, match="no such file"):
        vmaf(films["truth"], "gone.mp4")


def test_vmaf_without_its_ffmpeg_names_the_extra(
    films: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtra, match=r"sharpreel\[train\]"):
        vmaf(films["truth"], films["truth"])
