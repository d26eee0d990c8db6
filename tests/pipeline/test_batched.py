"""Several segments in one batch give the video that one after the other gives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.engines.pytorch import TorchEngine
from sharpreel.errors import InputError, UsageError
from sharpreel.media.reader import read_frames
from sharpreel.models.weights import load_model
from sharpreel.pipeline import batched
from sharpreel.pipeline.stages import Progress, Result
from sharpreel.upscale import upscale_video
from tests.support.terminal import events, sharpreel
from tests.support.videos import Pixels, make_clip, packets, video_pts

FRAMES, SEGMENT = 47, 0.2
LOSSLESS: dict[str, Any] = {
    "model": "reel-fast",
    "engine": "torch",
    "device": "cpu",
    "codec": "ffv1",
    "segment_seconds": SEGMENT,
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten segments with sound; the last is shorter than the others."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    return make_clip(path, frames=FRAMES, options={"g": "5", "bf": "2"})


@pytest.fixture(scope="module")
def alone(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone") / "out.mkv"
    assert upscale_video(video, output, **LOSSLESS).engine == "torch-cpu"
    return output


def frames_of(path: Path) -> Pixels:
    return read_frames(path).astype(int)


def test_a_batch_gives_the_frames_of_each_video_alone() -> None:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 4, 12, 18, 3), np.uint8)
    engine = TorchEngine(load_model("reel-fast", 2))
    states: list[Any] = [None, None, None]
    together = []
    for k in range(4):
        frames, states = engine.run_batch(list(clips[:, k]), states)
        together.append(frames)
    for clip, lane in zip(clips, zip(*together, strict=True), strict=True):
        engine.reset()
        for frame, result in zip(clip, lane, strict=True):
            assert np.abs(engine.run(frame).astype(int) - result).max() <= 1


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_a_batched_run_gives_the_video_of_a_run_without_batches(
    video: Path, alone: Path, tmp_path: Path, batch: int
) -> None:
    seen: list[Progress] = []
    output = tmp_path / "out.mkv"
    result = upscale_video(video, output, batch=batch, on_progress=seen.append, **LOSSLESS)
    assert (result.frames, result.lost) == (FRAMES, 0)
    assert result.engine == f"torch-cpu-batch{batch}"
    assert np.abs(frames_of(output) - frames_of(alone)).max() <= 1
    assert video_pts(output) == video_pts(alone)
    assert packets(output, "audio") == packets(alone, "audio")
    assert [p.frames for p in seen if p.event == "progress"] == list(range(1, FRAMES + 1))
    assert sum(p.event == "segment" for p in seen) > 5
    assert list(tmp_path.iterdir()) == [output]


def test_a_batched_run_resumes_to_the_same_bytes(video: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    upscale_video(video, whole, batch=3, **LOSSLESS)

    class Enough(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.event == "segment" and progress.frames >= FRAMES // 2:
            raise Enough

    with pytest.raises(Enough):
        upscale_video(video, cut, batch=3, on_progress=stop, **LOSSLESS)
    result = upscale_video(video, cut, batch=3, **LOSSLESS)
    assert 0 < result.resumed_frames < FRAMES
    assert cut.read_bytes() == whole.read_bytes()


def test_an_encoder_that_fails_ends_the_run(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise InputError("no more")

    monkeypatch.setattr(batched, "write_segment", fail)
    with pytest.raises(InputError, match="no more"):
        upscale_video(video, tmp_path / "out.mkv", batch=3, **LOSSLESS)
    assert not (tmp_path / "out.mkv").exists()


def test_an_image_folder_can_be_batched(video: Path, tmp_path: Path) -> None:
    options = LOSSLESS | {"codec": None, "end": Fraction(1)}

    def upscaled(name: str, **more: Any) -> Result:
        return upscale_video(video, tmp_path / name, **options, **more)

    assert upscaled("one").frames == upscaled("many", batch=4).frames == 25
    names = [sorted(p.name for p in (tmp_path / n).iterdir()) for n in ("one", "many")]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "auto"}, "run by PyTorch; reel-fast by openvino"),
        ({"model": "reel-quality", "scale": 4}, "networks that carry a state"),
        ({"tile": 64}, "and one does not"),
        ({"batch": 0}, "batch must be 1 or more"),
    ],
)
def test_a_run_that_cannot_be_batched_is_refused(
    video: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        upscale_video(video, tmp_path / "out.mkv", **{**LOSSLESS, "batch": 2, **options})


def test_the_command_takes_a_batch(video: Path, tmp_path: Path) -> None:
    arguments = ("-m", "reel-fast", "--engine", "torch", "-d", "cpu", "--batch", 2, "--json")
    done = sharpreel(
        "upscale", video, "-o", tmp_path / "out.mkv", *arguments, "--segment-seconds", 0.4
    )
    assert done.returncode == 0, done.stderr
    assert events(done.stdout)[-1]["engine"] == "torch-cpu-batch2"
    assert sharpreel("upscale", video, "-o", "-", *arguments).returncode == 2
    assert sharpreel("upscale", video, *arguments, "--cluster", "local").returncode == 2
