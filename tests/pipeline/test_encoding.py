"""Encoder settings: codec, pixel format, colour and pixel shape of the output."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.media.color import RGB
from sharpreel.media.probe import probe
from sharpreel.pipeline.encoding import default_codec, encode_settings
from sharpreel.pipeline.options import UpscaleOptions
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


@pytest.mark.parametrize(
    ("codec", "bits", "suffix", "expected"),
    [
        ("h264", 8, ".mp4", "h264"),
        ("h264", 10, ".mp4", "hevc"),
        ("vp9", 8, ".webm", "vp9"),
        ("vp9", 10, ".webm", "av1"),
        ("av1", 8, ".webm", "av1"),
        ("av1", 8, ".mkv", "h264"),
    ],
)
def test_the_default_codec_fits_the_depth_and_the_container(
    codec: str, bits: int, suffix: str, expected: str, clip: Path
) -> None:
    info = replace(probe(clip), codec=codec, bits=bits)
    assert default_codec(info, suffix) == expected


def test_quality_and_speed_are_the_requested_ones_or_the_codecs(clip: Path) -> None:
    info = probe(clip)
    default = encode_settings(UpscaleOptions(), info, (128, 96), ".mp4")
    assert (default.codec, default.crf, default.preset) == ("h264", 17, "veryfast")
    chosen = UpscaleOptions(codec="hevc", crf=0, preset="slow")
    settings = encode_settings(chosen, info, (128, 96), ".mp4")
    assert (settings.codec, settings.crf, settings.preset) == ("hevc", 0, "slow")


def test_rgb_input_gets_a_matrix_that_the_pixel_format_has(clip: Path) -> None:
    info = probe(clip)
    rgb = replace(info, color=replace(info.color, matrix=RGB, full_range=True))
    stored = encode_settings(UpscaleOptions(pix_fmt="yuv420p"), rgb, (128, 96), ".mp4")
    assert stored.color.matrix != RGB
    assert not stored.color.full_range
    lossless = UpscaleOptions(codec="ffv1", pix_fmt="bgr0")
    kept = encode_settings(lossless, info, (128, 96), ".mkv")
    assert (kept.color.matrix, kept.color.full_range) == (RGB, True)


@pytest.mark.parametrize(
    ("pix_fmt", "size", "fits"),
    [
        ("yuv420p", (129, 96), False),
        ("yuv420p", (128, 97), False),
        ("yuv422p", (128, 97), True),
        ("yuv422p", (129, 96), False),
        ("yuv444p", (129, 97), True),
    ],
)
def test_an_odd_side_needs_a_pixel_format_that_keeps_its_chroma(
    pix_fmt: str, size: tuple[int, int], fits: bool, clip: Path
) -> None:
    options = UpscaleOptions(pix_fmt=pix_fmt)
    if fits:
        assert encode_settings(options, probe(clip), size, ".mp4").pix_fmt == pix_fmt
        return
    with pytest.raises(UsageError, match=r"is odd, which .* cannot store"):
        encode_settings(options, probe(clip), size, ".mp4")
