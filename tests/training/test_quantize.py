"""quantize.py: int8 graphs that stay close to float ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharpreel import ops
from sharpreel.data.store import Clip
from sharpreel.engines.choose import choose_engine, engine_choice, loss_db
from sharpreel.engines.openvino import OpenVinoEngine, openvino_core
from sharpreel.errors import UsageError
from sharpreel.models import MODELS
from sharpreel.models.weights import load_model
from sharpreel.training import quantize

ROWS = [
    (name, scale)
    for name, spec in MODELS.items()
    for scale in (spec.scales if spec.bundled else ())
    if load_model(name, scale).int8 is not None
]


def picture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 256, (height // 4, width // 4, 3))
    return ops.resize(noise.astype(np.uint8), height, width)


def sliding(scale: int, count: int) -> Clip:
    """A texture that slides by a lr pixel a frame."""
    wide = picture(48 * scale, 96 * scale)
    hr = np.stack([wide[:, k * scale : (k + 48) * scale] for k in range(count)])
    return Clip("sliding", hr, np.stack([ops.resize(f, 48, 48) for f in hr]))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_int8_is_close_to_float32(name: str, scale: int) -> None:
    lost = quantize.losses(load_model(name, scale), sliding(scale, 20))
    assert max(lost) <= 2 * quantize.TOLERANCE_DB  # the tolerance is of a mean over real clips


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_a_still_scene_does_not_drift_in_int8(name: str, scale: int) -> None:
    hr = picture(24 * scale, 24 * scale)
    lr = ops.resize(hr, 24, 24)
    runner = OpenVinoEngine(load_model(name, scale), precision="int8")
    scores = [psnr(runner.run(lr), hr) for _ in range(500)]
    assert scores[499] >= scores[19] - 0.1


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_sixteen_bits_are_run_in_float32(name: str, scale: int) -> None:
    model = load_model(name, scale)
    frame = picture(24, 32).astype(np.uint16) * 257 + 100
    one, two = (OpenVinoEngine(model, precision=p).run(frame) for p in ("int8", "float32"))
    assert one.dtype == np.uint16
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_int8_in_tiles_makes_the_picture_of_the_whole_frame(name: str, scale: int) -> None:
    model = load_model(name, scale)
    whole = OpenVinoEngine(model, precision="int8")
    tiled = OpenVinoEngine(model, precision="int8", tile=48)
    for frame in (picture(101, 134), picture(101, 134)[:, ::-1]):
        difference = np.abs(whole.run(frame).astype(int) - tiled.run(frame))
        assert difference.max() <= 2
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_a_cpu_runs_int8_unless_told_otherwise(name: str, scale: int) -> None:
    model = load_model(name, scale)
    assert model.int8 is not None
    chosen = engine_choice(model, "cpu")
    if "INT8" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert chosen.precision == "int8"
        assert f"{loss_db(model.int8):.2f} dB below float32" in chosen.why
    else:
        assert (chosen.precision, chosen.why) == ("float32", "this CPU has no fast int8")
    assert choose_engine(model, "cpu", precision="int8").name == "openvino-int8"
    assert choose_engine(model, "cpu", precision="float32").name == "openvino"
    assert choose_engine(model, "cpu", "torch").name == "torch-cpu"


def test_a_network_without_int8_graph_says_so() -> None:
    model = load_model("bicubic", 2)
    assert choose_engine(model, "cpu").name == "openvino"
    with pytest.raises(UsageError, match="bicubic has no int8 graph"):
        choose_engine(model, "cpu", precision="int8")
    with pytest.raises(UsageError, match="precision='int4' is not known"):
        choose_engine(model, "cpu", precision="int4")
    with pytest.raises(UsageError, match="requires the CPU and OpenVINO"):
        choose_engine(model, "cuda", precision="int8")


def test_a_clip_is_run_there_and_back() -> None:
    frames = np.arange(3)
    assert list(quantize.there_and_back(frames, 7)) == [0, 1, 2, 1, 0, 1, 2]
    assert list(quantize.there_and_back(frames[:1], 3)) == [0, 0, 0]


def test_too_few_videos_and_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 videos of 160 pixels a side or more"):
        quantize.quantize(load_model("reel-fast", 2), tmp_path, tmp_path)
    with pytest.raises(UsageError, match="only reel and reel-fast"):
        quantize.quantize(load_model("bicubic", 2), tmp_path, tmp_path)
