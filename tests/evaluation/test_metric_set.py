"""LPIPS and NIQE as part of a benchmark."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.data.degrade import resample
from sharpreel.errors import UsageError
from sharpreel.evaluation import benchmark as benchmark_module
from sharpreel.evaluation import tables
from sharpreel.evaluation.metrics.niqe import Niqe
from sharpreel.upscale import upscale_frames
from tests.support.evaluation import SIZE, lossless, run_benchmark, save_images
from tests.support.videos import moving


class Counted:
    """A stand-in for LPIPS: the difference of means."""

    about = "means"

    def __init__(self) -> None:
        self.frames = 0

    def features(self, frame: Any) -> float:
        self.frames += 1
        return float(frame.mean())

    def distance(self, sr: float, hr: float) -> float:
        return abs(sr - hr)


def test_lpips_processes_the_reference_once_and_only_counted_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lpips = Counted()
    monkeypatch.setattr(benchmark_module, "open_lpips", lambda *_: lpips)
    frames = list(moving(SIZE, 3))
    path = lossless(tmp_path / "one.mkv", frames)
    found = run_benchmark(["reel-fast"], path, protocol="P2", lpips=(path, path), temporal=False)
    assert lpips.frames == 3 * (2 + 1)
    lr = resample.bicubic(np.stack(frames), 2)
    bicubic = list(upscale_frames(list(lr), "bicubic", scale=2))
    cropped = ((a[8:-8, 8:-8], b[8:-8, 8:-8]) for a, b in zip(bicubic, frames, strict=True))
    expected = [abs(a.mean() - b.mean()) for a, b in cropped]
    result = found.clips[0].of("bicubic")
    assert [s.lpips for s in result.frames] == pytest.approx(expected)
    assert result.lpips == pytest.approx(np.mean(expected))
    text = tables.to_markdown(found)
    assert "| LPIPS |" in text
    assert "LPIPS 0.1 by means." in text


def test_niqe_is_measured_for_models_and_reference_and_names_its_images(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    big = [rng.integers(0, 256, (192, 288, 3)).astype(np.uint8) for _ in range(3)]
    clips = save_images(tmp_path / "clips" / "one", big)
    found = run_benchmark([], tmp_path / "clips", niqe=clips, temporal=False)
    model = Niqe.fit(big)
    clip = found.clips[0]
    assert clip.truth_niqe is not None
    assert clip.truth_niqe == pytest.approx(np.mean([model(frame) for frame in big]))
    niqe = clip.of("bicubic").niqe
    assert niqe is not None
    assert niqe > clip.truth_niqe
    text = tables.to_markdown(found)
    assert "| NIQE |" in text
    assert "one, fitted on its 3 images: it cannot be compared with tables" in text
    model.save(tmp_path / "model.npz")
    again = run_benchmark([], tmp_path / "clips", niqe=tmp_path / "model.npz", temporal=False)
    assert again.clips[0].of("bicubic").niqe == pytest.approx(niqe)
    tables.write_frames_csv(found, tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(newline="") as file:
        assert [float(row["niqe"]) for row in csv.DictReader(file)] == [
            score.niqe for score in clip.of("bicubic").frames
        ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: Only 0 blocks"):
        run_benchmark([], tmp_path / "clips", niqe=tmp_path / "empty")
