"""PyTorch runs every network, and its output is OpenVINO's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.engines.pytorch import HALF_DB, TorchEngine
from sharpreel.models.weights import load_model
from sharpreel.pipeline.segments import lookback
from sharpreel.upscale import upscale_frames
from tests.support.checkpoints import FILES, NAMES, save, scene
from tests.support.engines import ROWS, make_all, moving_frames


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    top = np.iinfo(a.dtype).max
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(top**2 / max(error, 1e-12)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_both_engines_give_the_same_output(name: str, scale: int, dtype: type) -> None:
    model = load_model(name, scale)
    one, two = OpenVinoEngine(model), TorchEngine(model)
    for frame in moving_frames(6, 36, 50, dtype):
        a, b = one.run(frame), two.run(frame)
        assert a.shape == (36 * scale, 50 * scale, 3)
        assert a.dtype == dtype
        assert psnr(a, b) >= 50


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
@pytest.mark.parametrize("scale", [2, 4])
def test_odd_sizes_come_out_at_exactly_the_scale(kind: type, scale: int) -> None:
    runner = kind(load_model("reel-fast", scale))
    frame = moving_frames(1, 17, 23, np.uint8)[0]
    assert runner.run(frame).shape == (17 * scale, 23 * scale, 3)


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
@pytest.mark.parametrize("name", ["bicubic", "reel", "reel-fast", "reel-live"])
def test_a_side_may_be_one_pixel(kind: type, name: str) -> None:
    for height, width in ((1, 1), (64, 1), (1, 7)):
        runner = kind(load_model(name, 2))
        for level in (10, 200, 10):
            made = runner.run(np.full((height, width, 3), level, np.uint8))
            assert made.shape == (2 * height, 2 * width, 3)
            if name == "bicubic":
                assert (made == level).all()


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
def test_reset_clears_the_state_and_running_keeps_it(kind: type) -> None:
    runner = kind(load_model("reel-fast", 2))
    a, b = moving_frames(2, 32, 32, np.uint8)
    first = runner.run(a)
    after_a = runner.run(b)
    runner.reset()
    np.testing.assert_array_equal(runner.run(a), first)
    runner.reset()
    assert (runner.run(b) != after_a).any()


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
def test_frames_that_must_not_be_written_to_are_taken(kind: type) -> None:
    frame = moving_frames(1, 16, 16, np.uint8)[0]
    wanted = kind(load_model("reel-fast", 2)).run(frame)
    frame.flags.writeable = False
    np.testing.assert_array_equal(kind(load_model("reel-fast", 2)).run(frame), wanted)


@pytest.mark.parametrize(("name", "scale"), [("reel-fast", 2), ("reel", 4)])
def test_half_precision_gives_the_same_output(name: str, scale: int) -> None:
    """What a GPU runs, on a CPU: slow there, but the same operators."""
    model = load_model(name, scale)
    full, half = TorchEngine(model), TorchEngine(model, precision="float16")
    assert half.name == "torch-cpu-float16"
    assert half._half_suffices()
    frames = moving_frames(3, 12, 16, np.uint8)
    for a, b in zip(make_all(full, frames), make_all(half, frames), strict=True):
        assert psnr(a, b) >= HALF_DB
    deep = moving_frames(3, 12, 16, np.uint16)
    np.testing.assert_array_equal(make_all(full, deep), make_all(half, deep))


@pytest.mark.parametrize("which", FILES, ids=NAMES)
def test_frames_equal_the_output_of_the_network_on_the_whole_clip(
    which: Any, tmp_path: Path
) -> None:
    path = save(tmp_path, which)
    frames = scene(7)
    made = list(upscale_frames(frames, path, engine="torch"))
    module = load_model(path).module()
    clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255
    with torch.no_grad():
        whole = module(clip)[0].clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    for ours, theirs in zip(made, whole, strict=True):
        # The order of float sums may differ: a half may round the other way.
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        assert (ours != theirs).mean() < 0.001


def test_neighbours_stay_in_their_scene(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    one = scene(4)
    two = [255 - f for f in scene(4)]
    together = list(upscale_frames([*one, *two], path, engine="torch"))
    apart = [*upscale_frames(one, path, engine="torch"), *upscale_frames(two, path, engine="torch")]
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_engine_states_how_many_neighbours_its_network_needs(tmp_path: Path) -> None:
    seen = {}
    for which in FILES:
        engine = TorchEngine(load_model(save(tmp_path, which)))
        seen[which[0]] = (engine.past, engine.future, engine.clip_len)
    assert seen["tsrcnn"] == (1, 1, 4)
    assert seen["srgan"] == (0, 0, 0)
    assert seen["rbpn"] == (1, 1, 1)
    assert seen["basicvsr"] == (5, 5, 15)
    assert lookback(engine) == 7
