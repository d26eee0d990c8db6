"""Conditions equal what FFmpeg's program makes, and the mixture has its shares."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import PictureType

from sharpreel.data import degrade
from sharpreel.data.degrade import realworld as d
from sharpreel.data.degrade.resample import bicubic
from sharpreel.evaluation.metrics.fidelity import psnr_y
from tests.support.degradations import psnr, scene


def by_the_tool(hr: d.Clip, chain: str, encode: list[str], path: Path) -> d.Clip:
    """The clip through an FFmpeg program of another release, from raw frames to raw frames."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-threads", "1"]
    t, h, w, _ = hr.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-r", "25", "-i", "-"]
    made = [*command, *raw, "-vf", chain, "-pix_fmt", "yuv420p", *encode, str(path)]
    subprocess.run(made, input=hr.tobytes(), check=True)
    shown = [*command, "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(shown, stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(t, h // 2, w // 2, 3)


def luma_psnr(a: d.Clip, b: d.Clip) -> float:
    return float(np.mean([psnr_y(x, y) for x, y in zip(a, b, strict=True)]))


X264 = ["-c:v", "libx264", "-preset", "fast", "-crf"]
VPX = ["-c:v", "libvpx-vp9", "-crf", "44", "-b:v", "0", "-cpu-used", "5", "-deadline", "good"]


@pytest.mark.parametrize(
    ("name", "kernel", "encode", "container"),
    [
        ("h264-25", "lanczos", [*X264, "25"], "mp4"),
        ("h264-35", "lanczos", [*X264, "35"], "mp4"),
        ("vp9-44", "lanczos", VPX, "webm"),
        ("mpeg2-5", "area", ["-c:v", "mpeg2video", "-q:v", "5", "-bf", "2", "-g", "15"], "mpg"),
        ("mpeg4-6", "area", ["-c:v", "mpeg4", "-bf", "0", "-g", "100", "-q:v", "6"], "avi"),
    ],
)
def test_a_condition_is_what_the_ffmpeg_tool_makes(
    name: str, kernel: str, encode: list[str], container: str, tmp_path: Path
) -> None:
    hr = scene(9, 128, 192)
    ours = degrade.degrade(hr, 2, name)[1]
    theirs = by_the_tool(hr, f"scale=96:64:flags={kernel}", encode, tmp_path / f"a.{container}")
    clean = bicubic(hr, 2)
    # The same losses, not just as many; on luma, since the tool rounds chroma otherwise.
    assert luma_psnr(ours, theirs) > luma_psnr(ours, clean) + 4
    assert luma_psnr(ours, clean) == pytest.approx(luma_psnr(theirs, clean), abs=1.0)


def test_worse_quality_is_further_from_the_ground_truth() -> None:
    hr = scene(6, 128, 192)
    clean = bicubic(hr, 2)
    found = [psnr(degrade.degrade(hr, 2, f"h264-{crf}")[1], clean) for crf in (20, 25, 30, 35)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] + 5


def test_a_second_codec_does_not_repeat_the_frame_types_of_the_first() -> None:
    hr = scene(12, 64, 96)
    frames = d._reduced(hr, 32, 48, d.Condition("area", (d.mpeg2(5),)), 0)
    coded = d._coded(d._coded(frames, d.mpeg2(5)), d.h264(24))
    types = [PictureType(frame.pict_type).name for frame in coded]
    assert len(types) == 12
    assert types.count("I") == 1


def test_camera_noise_changes_with_the_seed_and_not_without() -> None:
    hr = scene(3, 64, 96)
    first, again, other = (degrade.degrade(hr, 2, "camera", seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("coding", [d.flv(4), d.mjpeg(4), d.vp8(40), d.vp9(40), d.h264(30)])
def test_odd_and_tiny_sizes_pass_through_every_codec(coding: d.Coding) -> None:
    hr = scene(3, 46, 18)
    lr = d.apply(hr, 2, d.Condition("bicubic", (coding,), blur=0.5, noise=3, noise_before=True))
    assert lr.shape == (3, 23, 9, 3)
    assert psnr(lr, bicubic(hr, 2)) > 18


def test_levels_keep_their_range_through_full_and_limited_range_codecs() -> None:
    hr = np.zeros((2, 64, 64, 3), np.uint8)
    hr[:, :, 32:] = 255
    lr = d.apply(hr, 2, d.Condition("area", (d.mjpeg(2), d.h264(10))))
    assert lr[:, :, :12].max() < 6
    assert lr[:, :, 20:].min() > 249


def test_the_mixture_draws_by_its_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [d.drawn_condition(rng) for _ in range(2000)]
    coded = [c for c in drawn if c.codings]
    assert len(drawn) - len(coded) == pytest.approx(2000 * d.CLEAN, rel=0.2)
    assert sum(len(c.codings) == 2 for c in coded) == pytest.approx(len(coded) * d.TWICE, rel=0.2)
    assert sum(c.noise > 0 for c in drawn) == pytest.approx(2000 * d.NOISY, rel=0.1)
    assert {c.codings[0].decoder for c in coded} == {
        "h264",
        "vp9",
        "mpeg4",
        "mpeg2video",
        "flv",
        "mjpeg",
        "vp8",
    }
    assert {c.kernel for c in drawn} == {"area", "bicubic", "lanczos"}
    assert max(c.blur for c in drawn) <= 1.2


def test_a_clean_clip_of_the_mixture_is_plain_bicubic() -> None:
    hr = scene(2, 64, 96)
    seeds = range(100)
    drawn = [d.drawn_condition(np.random.default_rng(seed)) for seed in seeds]
    clean = next(s for s, c in zip(seeds, drawn, strict=True) if not c.codings)
    assert np.array_equal(degrade.degrade(hr, 2, "realistic", clean)[1], bicubic(hr, 2))


def test_frames_of_16_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="8 bits, got uint16"):
        d.apply(np.zeros((1, 32, 32, 3), np.uint16), 2, d.CONDITIONS["h264-20"][1])
