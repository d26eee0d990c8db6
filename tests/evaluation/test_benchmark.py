"""What a benchmark measures, how it streams, and what it rejects."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.data.degrade.resample import bicubic
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation import pairs as pairs_module
from sharpreel.evaluation.metrics.fidelity import psnr, psnr_y, ssim
from sharpreel.evaluation.protocols import PROTOCOLS
from sharpreel.evaluation.results import Evaluation
from sharpreel.media import images
from sharpreel.models.weights import load_model
from sharpreel.upscale import upscale_frames, upscale_video
from tests.support.evaluation import SIZE, lossless, run_benchmark, save_images
from tests.support.videos import decode_rgb, moving, write_frames


def matlab_bicubic(frame: Any, height: int, width: int) -> Any:
    """imresize from its definition, in double precision: one dense matrix for each axis."""

    def matrix(size_in: int, size_out: int) -> Any:
        ratio = size_in / size_out
        widen = max(ratio, 1)
        out = np.zeros((size_out, size_in))
        for i in range(size_out):
            centre = (i + 0.5) * ratio - 0.5
            for j in range(math.floor(centre - 2 * widen), math.ceil(centre + 2 * widen) + 1):
                x = abs(centre - j) / widen
                near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
                place = j % (2 * size_in)
                weight = near if x <= 1 else far if x < 2 else 0
                out[i, place if place < size_in else 2 * size_in - 1 - place] += weight
            out[i] /= out[i].sum()
        return out

    rows, columns = matrix(frame.shape[0], height), matrix(frame.shape[1], width)
    return np.einsum("ij,jkc,lk->ilc", rows, frame.astype(np.float64), columns)


def rounded(exact: Any) -> Any:
    return np.clip(np.rint(exact), 0, 255).astype(np.uint8)


def clear_frame(seed: int) -> tuple[Any, Any, Any]:
    """hr, lr and bicubic, by the definition, of which no value lies so near to a half that single
    precision could round it to the other side."""
    rng = np.random.default_rng(seed)
    while True:
        hr = rng.integers(40, 216, (24, 32, 3)).astype(np.uint8)
        small = matlab_bicubic(hr, 6, 8)
        large = matlab_bicubic(rounded(small), 24, 32)
        if all(np.abs(np.abs(x - np.rint(x)) - 0.5).min() > 1e-4 for x in (small, large)):
            return hr, rounded(small), rounded(large)


def luma_psnr(sr: Any, hr: Any) -> float:
    """By the equation of rgb2ycbcr alone."""
    weight = np.array([65.481, 128.553, 24.966])
    a, b = (16 + f.astype(np.float64) @ weight / 255 for f in (sr, hr))
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def test_bicubic_by_p1_equals_the_definitions(tmp_path: Path) -> None:
    frames = [clear_frame(seed) for seed in range(3)]
    path = lossless(tmp_path / "one.mkv", [hr for hr, _, _ in frames])
    clip = run_benchmark([], path, scale=4, protocol="P1", temporal=False).clips[0]
    expected = [luma_psnr(sr, hr) for hr, _, sr in frames]
    # The pixels are the very same; two ways to add up luma may differ in the last bits.
    assert [s.psnr for s in clip.of("bicubic").frames] == pytest.approx(expected, rel=1e-13)
    exact = [psnr_y(sr, hr) for hr, _, sr in frames]
    assert [s.psnr for s in clip.of("bicubic").frames] == exact
    assert clip.of("bicubic").psnr == np.mean(exact)


def test_the_layout_of_vid4_is_found(evaluation: Evaluation) -> None:
    assert [clip.clip for clip in evaluation.clips] == ["calendar", "city", "foliage", "walk"]


def test_bicubic_comes_first_and_every_metric_is_present(evaluation: Evaluation) -> None:
    assert [m.name for m in evaluation.models] == ["bicubic", "reel-fast"]
    for clip in evaluation.clips:
        assert (clip.width, clip.height, clip.lr_width, clip.lr_height) == (48, 36, 12, 9)
        assert (clip.frames, clip.counted) == (5, 5)
        assert clip.truth_warping_error is not None
        for result in clip.results:
            assert result.qm == math.sqrt(result.psnr * result.ssim)
            assert result.tof is not None
            assert result.warping_error is not None
            assert result.flicker is not None
            assert result.vmaf is None
            assert result.fps > 0
            assert [score.frame for score in result.frames] == list(range(5))
    assert evaluation.peak_memory_mb
    assert evaluation.score("reel-fast") in (0, 0.25, 0.5, 0.75, 1)
    assert evaluation.gain("bicubic") == 0


@pytest.mark.parametrize("kind", ["video", "images"])
def test_scores_are_those_of_losslessly_upscaled_files(kind: str, tmp_path: Path) -> None:
    hr = np.stack(list(moving(SIZE, 6)))
    lr = bicubic(hr, 2)
    if kind == "video":
        (tmp_path / "hr").mkdir()
        (tmp_path / "lr").mkdir()
        lossless(tmp_path / "hr" / "clip.mkv", hr)
        lr_path = lossless(tmp_path / "lr" / "clip.mkv", lr)
        upscale_video(
            lr_path, tmp_path / "out.mkv", codec="ffv1", pix_fmt="bgr0", model="reel-fast"
        )
        written = list(decode_rgb(tmp_path / "out.mkv"))
    else:
        save_images(tmp_path / "hr" / "clip", hr)
        lr_path = save_images(tmp_path / "lr" / "clip", lr)
        upscale_video(lr_path, tmp_path / "out", model="reel-fast")
        written = [images.read_rgb(p) for p in images.image_files(tmp_path / "out")]
    result = run_benchmark(
        ["reel-fast"], tmp_path / "hr", lr_folder=tmp_path / "lr", temporal=False, protocol="P1-RGB"
    )
    clip = result.clips[0]
    assert result.degradation == "given"
    scores = clip.of("reel-fast").frames
    for score, sr, reference in zip(scores, written, hr, strict=True):
        assert score.psnr == psnr(sr, reference, "rgb")
        assert score.ssim == ssim(sr, reference, "rgb")
    crop = result.crops[0]
    height, width = crop.hr.shape[:2]
    here = slice(crop.top, crop.top + height), slice(crop.left, crop.left + width)
    assert (crop.srs["reel-fast"] == written[crop.frame][here]).all()
    # Frames that are reduced here are the same as those that were given.
    made = run_benchmark(["reel-fast"], tmp_path / "hr", temporal=False, protocol="P1-RGB")
    assert made.clips[0].of("reel-fast").frames == scores


class Frames:
    """Makes frames one by one and counts those that are still alive."""

    def __init__(self) -> None:
        self.alive = self.most = 0

    def watch(self, frame: Any) -> Any:
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(frame, self._gone)
        return frame

    def _gone(self) -> None:
        self.alive -= 1

    def many(self, count: int) -> Iterator[Any]:
        for frame in moving((32, 32), count):
            yield self.watch(frame)
            del frame


@pytest.mark.parametrize("protocol", ["P1", "P4", "P1-Vimeo"])
def test_a_long_video_is_measured_in_constant_memory(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = Frames()
    monkeypatch.setattr(pairs_module, "decoded", lambda paths, name, notes: frames.many(300))
    path = lossless(tmp_path / "long.mkv", moving((32, 32), 2))
    reported: list[tuple[str, int, int | None]] = []
    found = run_benchmark(
        ["reel-fast"],
        path,
        protocol=protocol,
        temporal=False,
        on_progress=lambda *at: reported.append(at),
    )
    counted = {"P1": 300, "P4": 294, "P1-Vimeo": 1}[protocol]
    assert (found.clips[0].frames, found.clips[0].counted) == (300, counted)
    assert frames.most <= 8
    assert [done for _, done, _ in reported] == list(range(1, 301))
    del found
    assert frames.alive == 0


def test_16_bit_video_is_measured_in_16_bits(tmp_path: Path) -> None:
    deep = list(moving(SIZE, 2, deep=True))
    path = write_frames(tmp_path / "deep.mkv", deep, codec="ffv1", pix_fmt="gbrp16le")
    clip = run_benchmark([], path, temporal=False).clips[0]
    lr = bicubic(np.stack(deep), 2)
    sr = upscale_frames(list(lr), "bicubic", scale=2)
    expected = [psnr_y(x, y) for x, y in zip(sr, deep, strict=True)]
    assert [score.psnr for score in clip.of("bicubic").frames] == expected


def test_protocols_select_frames_and_misfits_are_reported(tmp_path: Path, vid4: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving(SIZE, 7))
    vimeo = run_benchmark([], path, protocol="P1-Vimeo").clips[0]
    assert [s.frame for s in vimeo.of("bicubic").frames] == [3]
    assert vimeo.of("bicubic").tof is None
    with pytest.raises(InputError, match="protocol P4 counts none of its 5 frames"):
        run_benchmark([], vid4, protocol="P4", temporal=False)
    with pytest.raises(UsageError, match=r"calendar: .*leaves nothing of a frame of 48x36"):
        run_benchmark([], vid4, protocol=replace(PROTOCOLS["P2"], crop_border=20))
    with pytest.raises(UsageError, match="protocol='P9' is not known"):
        run_benchmark([], vid4, protocol="P9")


def test_invalid_requests_are_rejected_before_the_first_frame(tmp_path: Path, vid4: Path) -> None:
    with pytest.raises(UsageError, match=r"(?i)did you mean '?bi"):
        run_benchmark([], vid4, degradation="by")
    with pytest.raises(UsageError, match="defined for scale 2, 4"):
        run_benchmark([], vid4, degradation="bd-tecogan", scale=3)
    with pytest.raises(InputError, match="no such file or folder"):
        run_benchmark([], tmp_path / "nothing")
    with pytest.raises(UsageError, match="reel-fast is a 2x model, the others are 4x"):
        run_benchmark(["reel-fast", load_model("reel-fast", 2)], vid4, scale=4)
    with pytest.raises(UsageError, match="reel-fast is given twice"):
        run_benchmark(["reel-fast", "reel-fast"], vid4)
