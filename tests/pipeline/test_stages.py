from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skimage.data

from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.media.reader import read_frames
from sharpreel.models import MODELS
from sharpreel.models.weights import load_model
from sharpreel.upscale import upscale_frames
from tests.support.videos import Pixels, moving

SMALL = "reel-fast"  # as any causal network, and in the least time


def psnr(a: Pixels, b: Pixels) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * np.log10(255**2 / error) if error else float("inf")


def real_clips() -> dict[str, list[Pixels]]:
    """28 frames each of three real clips where they are at hand, else a pan over a photograph."""
    from tests.support.videos import REPO

    size = (96, 128)
    clips: dict[str, list[Pixels]] = {}
    for path in sorted((REPO.parent / "shared" / "data" / "val").glob("*.mp4"))[:4]:
        whole = read_frames(path)
        y, x = (whole.shape[1] - size[0]) // 2, (whole.shape[2] - size[1]) // 2
        clips[path.stem] = list(whole[:, y : y + size[0], x : x + size[1]])
    photo: Pixels = skimage.data.astronaut()
    clips["pan"] = [photo[60 + t : 60 + t + size[0], 3 * t : 3 * t + size[1]] for t in range(28)]
    return clips


@pytest.mark.parametrize("scale", [2, 4])
def test_after_its_warm_up_a_network_reproduces_the_frames_of_an_uncut_run(
    scale: int,
) -> None:
    warm_up = MODELS[SMALL].warm_up
    engine = OpenVinoEngine(load_model(SMALL, scale))
    for name, frames in real_clips().items():
        engine.reset()
        uncut = [engine.run(f) for f in frames]
        begin = len(frames) - 4
        engine.reset()
        resumed = [engine.run(f) for f in frames[max(begin - warm_up, 0) :]][-4:]
        worst = min(psnr(a, b) for a, b in zip(resumed, uncut[begin:], strict=True))
        assert worst >= 60, f"{name}: {worst:.1f} dB after {warm_up} frames"


def test_a_scene_cut_resets_the_state() -> None:
    one, two = real_clips()["pan"][:6], list(moving((128, 96), 6))
    joined = list(upscale_frames([*one, *two]))
    np.testing.assert_array_equal(np.stack(joined[6:]), np.stack(list(upscale_frames(two))))


def test_within_a_scene_the_state_is_kept() -> None:
    frames = real_clips()["pan"][:6]
    whole, last = list(upscale_frames(frames)), list(upscale_frames(frames[-1:]))
    assert (whole[-1] != last[0]).any()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([np.zeros((8, 8, 3), np.float32)], "Frame 0 must be an array of uint8 or uint16, got f"),
        ([[[1, 2, 3]]], "Frame 0 must be an array of uint8 or uint16, got list"),
        ([np.zeros((8, 8), np.uint8)], r"Frame 0 must be RGB of shape \(H, W, 3\), got \(8, 8\)"),
        ([np.zeros((3, 8, 8), np.uint8)], r"got \(3, 8, 8\)"),
        ([np.zeros((8, k, 3), np.uint8) for k in (8, 9)], r"Frame 1 is uint8 \(8, 9, 3\), those"),
        ([np.zeros((8, 8, 3), k) for k in (np.uint8, np.uint16)], "Frame 1 is uint16"),
    ],
)
def test_invalid_frames_are_refused_with_what_was_received(frames: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(upscale_frames(frames, "bicubic"))
