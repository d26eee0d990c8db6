"""engine.py: two engines, one picture."""

import dataclasses

import numpy as np
import pytest

from sharpreel import engine, ops, weights
from sharpreel.engine import OpenVinoEngine, TorchEngine, choose_engine
from sharpreel.errors import DeviceError, UsageError
from sharpreel.models import MODELS

ROWS = [(name, scale) for name, spec in MODELS.items() if spec.bundled for scale in spec.scales]


def moving_frames(count: int, height: int, width: int, dtype: type) -> list[np.ndarray]:
    """A smooth texture that slides two pixels a frame."""
    rng = np.random.default_rng(0)
    noise = rng.random((height // 4 + 8, (width + 2 * count) // 4 + 8, 3))
    wide = ops.resize((noise * 65535).astype(np.uint16), height, width + 2 * count)
    frames = [wide[:, 2 * k : 2 * k + width] for k in range(count)]
    return [f if dtype == np.uint16 else (f >> 8).astype(np.uint8) for f in frames]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    top = np.iinfo(a.dtype).max
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(top**2 / max(error, 1e-12)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_both_engines_give_the_same_picture(name: str, scale: int, dtype: type) -> None:
    model = weights.load_model(name, scale)
    one, two = OpenVinoEngine(model), TorchEngine(model)
    for frame in moving_frames(6, 36, 50, dtype):
        a, b = one.run(frame), two.run(frame)
        assert a.shape == (36 * scale, 50 * scale, 3)
        assert a.dtype == dtype
        assert psnr(a, b) >= 50


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
@pytest.mark.parametrize("scale", [2, 4])
def test_odd_sizes_come_out_at_exactly_the_scale(kind: type, scale: int) -> None:
    runner = kind(weights.load_model("reel-fast", scale))
    frame = moving_frames(1, 17, 23, np.uint8)[0]
    assert runner.run(frame).shape == (17 * scale, 23 * scale, 3)


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
def test_reset_forgets_and_running_on_remembers(kind: type) -> None:
    runner = kind(weights.load_model("reel-fast", 2))
    a, b = moving_frames(2, 32, 32, np.uint8)
    first = runner.run(a)
    after_a = runner.run(b)
    runner.reset()
    np.testing.assert_array_equal(runner.run(a), first)
    runner.reset()
    assert (runner.run(b) != after_a).any()


def test_the_same_frames_give_the_same_bytes_again() -> None:
    model = weights.load_model("reel-fast", 2)
    frames = moving_frames(5, 40, 60, np.uint8)
    one, two = OpenVinoEngine(model), OpenVinoEngine(model)
    for frame in frames:
        np.testing.assert_array_equal(one.run(frame), two.run(frame))


def test_a_new_frame_size_begins_anew() -> None:
    runner = OpenVinoEngine(weights.load_model("reel-fast", 2))
    small, large = moving_frames(1, 16, 16, np.uint8)[0], moving_frames(1, 24, 32, np.uint8)[0]
    wanted = runner.run(small)
    assert runner.run(large).shape == (48, 64, 3)
    np.testing.assert_array_equal(runner.run(small), wanted)


@pytest.mark.parametrize("scale", [2, 4])
def test_openvino_bicubic_is_the_resize_of_ops(scale: int) -> None:
    runner = OpenVinoEngine(weights.load_model("bicubic", scale))
    frame = moving_frames(1, 31, 45, np.uint8)[0]
    wanted = ops.resize(frame, 31 * scale, 45 * scale)
    # The order of float sums differs, so halves may round the other way.
    assert np.abs(runner.run(frame).astype(int) - wanted).max() <= 1
    assert (runner.run(frame) != wanted).mean() < 0.01


def test_the_pictures_of_two_frames_do_not_share_memory() -> None:
    runner = OpenVinoEngine(weights.load_model("bicubic", 2))
    a, b = moving_frames(2, 16, 16, np.uint8)
    first = runner.run(a)
    kept = first.copy()
    runner.run(b)
    np.testing.assert_array_equal(first, kept)


def test_a_cpu_gets_the_saved_graph_and_torch_only_where_asked() -> None:
    model = weights.load_model("reel-fast", 2)
    assert choose_engine(model, "cpu").name == "openvino"
    assert choose_engine(model, "cpu", "torch").name == "torch-cpu"
    without_graph = dataclasses.replace(model, graph=None)
    assert choose_engine(without_graph, "cpu").name == "torch-cpu"
    with pytest.raises(UsageError, match="no saved graph"):
        choose_engine(without_graph, "cpu", "openvino")


def test_unknown_devices_and_engines_are_named() -> None:
    model = weights.load_model("bicubic", 2)
    with pytest.raises(UsageError, match="--device tpu"):
        choose_engine(model, "tpu")
    with pytest.raises(UsageError, match="--engine onnx"):
        choose_engine(model, "cpu", "onnx")
    with pytest.raises(UsageError, match="runs on the CPU"):
        choose_engine(model, "cuda", "openvino")


@pytest.mark.skipif(engine.cuda_available(), reason="a GPU is there")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        choose_engine(weights.load_model("reel-fast", 2), "cuda")
