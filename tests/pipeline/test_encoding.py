from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.upscale import run
from tests.support.plans import a_clip, plan_of, size_of
from tests.support.videos import make_clip


def test_an_exact_size_keeps_the_display_proportions_of_the_input(clip: Path) -> None:
    plan = plan_of(clip, size=(160, 96))
    assert size_of(plan) == (160, 96)
    assert plan.settings.sample_aspect_ratio == Fraction(64 * 96, 48 * 160)


def test_an_odd_size_can_be_stored_without_subsampling(clip: Path) -> None:
    assert size_of(plan_of(clip, size=(129, 97), pix_fmt="yuv444p")) == (129, 97)


def test_an_odd_input_is_doubled_to_an_even_size(tmp_path: Path) -> None:
    source = a_clip(tmp_path, size=(35, 21), pix_fmt="yuv444p")
    assert size_of(plan_of(source, pix_fmt="yuv420p")) == (70, 42)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".webm", "h264"), (".mp4", "prores"), (".mov", "ffv1"), (".ts", "vp9"), (".m2ts", "ffv1")],
)
def test_a_codec_that_the_container_cannot_hold_is_refused(
    suffix: str, codec: str, clip: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"out{suffix}"
    with pytest.raises(UsageError, match=f"{suffix}.*{codec}"):
        plan_of(clip, output, codec=codec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1", "prores"])
@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4", ".mov", ".ts"])
def test_a_codec_that_the_plan_accepts_runs(suffix: str, codec: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, audio=False)
    try:
        plan = plan_of(source, tmp_path / f"out{suffix}", codec=codec, model="bicubic")
    except UsageError:
        return  # refused in time
    assert run(plan).frames == 3
