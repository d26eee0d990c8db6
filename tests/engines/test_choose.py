"""engine.py: two engines, one picture."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpreel import ops
from sharpreel.engines import choose
from sharpreel.engines.base import Engine
from sharpreel.engines.choose import choose_engine, engine_choice
from sharpreel.engines.cuda_graph import CudaGraphStep
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.engines.pytorch import HALF_DB, TorchEngine
from sharpreel.engines.tiling import is_out_of_memory
from sharpreel.errors import DeviceError, UsageError
from sharpreel.models import MODELS
from sharpreel.models.weights import Model, as_int_if_whole, load_model
from sharpreel.system.resources import cuda_available
from sharpreel.upscale import upscale_frames

BUNDLED = [(name, scale) for name, spec in MODELS.items() if spec.bundled for scale in spec.scales]
ROWS = [row for row in BUNDLED if load_model(*row).has_graph]


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
def test_reset_forgets_and_running_on_remembers(kind: type) -> None:
    runner = kind(load_model("reel-fast", 2))
    a, b = moving_frames(2, 32, 32, np.uint8)
    first = runner.run(a)
    after_a = runner.run(b)
    runner.reset()
    np.testing.assert_array_equal(runner.run(a), first)
    runner.reset()
    assert (runner.run(b) != after_a).any()


def test_the_same_frames_give_the_same_bytes_again() -> None:
    model = load_model("reel-fast", 2)
    frames = moving_frames(5, 40, 60, np.uint8)
    one, two = OpenVinoEngine(model), OpenVinoEngine(model)
    for frame in frames:
        np.testing.assert_array_equal(one.run(frame), two.run(frame))


def test_a_new_frame_size_begins_anew() -> None:
    runner = OpenVinoEngine(load_model("reel-fast", 2))
    small, large = moving_frames(1, 16, 16, np.uint8)[0], moving_frames(1, 24, 32, np.uint8)[0]
    wanted = runner.run(small)
    assert runner.run(large).shape == (48, 64, 3)
    np.testing.assert_array_equal(runner.run(small), wanted)


@pytest.mark.parametrize("scale", [2, 4])
def test_openvino_bicubic_is_the_resize_of_ops(scale: int) -> None:
    runner = OpenVinoEngine(load_model("bicubic", scale))
    frame = moving_frames(1, 31, 45, np.uint8)[0]
    wanted = ops.resize(frame, 31 * scale, 45 * scale)
    # The order of float sums differs, so halves may round the other way.
    assert np.abs(runner.run(frame).astype(int) - wanted).max() <= 1
    assert (runner.run(frame) != wanted).mean() < 0.01


def test_the_pictures_of_two_frames_do_not_share_memory() -> None:
    runner = OpenVinoEngine(load_model("bicubic", 2))
    a, b = moving_frames(2, 16, 16, np.uint8)
    first = runner.run(a)
    kept = first.copy()
    runner.run(b)
    np.testing.assert_array_equal(first, kept)


def test_a_cpu_gets_the_saved_graph_and_torch_only_where_asked() -> None:
    model = load_model("reel-fast", 2)
    assert choose_engine(model, "cpu").name.startswith("openvino")
    assert choose_engine(model, "cpu", "torch").name == "torch-cpu"
    without_graph, _ = torch_model("tsrcnn", {"size": "small", "scale": 2})
    assert choose_engine(without_graph, "cpu").name == "torch-cpu"
    with pytest.raises(UsageError, match="no saved graph"):
        choose_engine(without_graph, "cpu", "openvino")


def test_unknown_devices_and_engines_are_named() -> None:
    model = load_model("bicubic", 2)
    with pytest.raises(UsageError, match="device='tpu' is not known"):
        choose_engine(model, "tpu")
    with pytest.raises(UsageError, match="engine='onnx' is not known"):
        choose_engine(model, "cpu", "onnx")
    with pytest.raises(UsageError, match="runs on the CPU"):
        choose_engine(model, "cuda", "openvino")


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
def test_frames_that_must_not_be_written_to_are_taken(kind: type) -> None:
    frame = moving_frames(1, 16, 16, np.uint8)[0]
    wanted = kind(load_model("reel-fast", 2)).run(frame)
    frame.flags.writeable = False
    np.testing.assert_array_equal(kind(load_model("reel-fast", 2)).run(frame), wanted)


@pytest.mark.skipif(cuda_available(), reason="a GPU is there")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        choose_engine(load_model("reel-fast", 2), "cuda")


# Tiles.

SMALL: list[tuple[str, dict[str, Any]]] = [
    ("tsrcnn", {"size": "small", "scale": 2}),
    ("tsrcnn", {"size": "large", "scale": 1.5}),
    ("srgan", {"network": "srresnet", "scale": 2}),
    ("srgan", {"network": "srresnet", "scale": 4}),
    ("srgan", {"network": "mobile", "scale": 2}),
    ("srgan", {"network": "mobile", "scale": 4}),
    ("srvgg", {"scale": 2, "channels": 8, "convs": 3}),
]
FAR: list[tuple[str, dict[str, Any]]] = [
    ("srgan", {"network": "fast", "channels": 8, "blocks": 1}),
    ("rrdb", {"scale": 4, "channels": 8, "blocks": 1, "growth": 4}),
    ("rbpn", {"scale": 2, "num_frames": 3, "base_filter": 8, "feat": 4, "resblocks": 1}),
    ("basicvsr", {"channels": 8, "blocks": 1, "scale": 2}),
    ("basicvsrpp", {"channels": 8, "blocks": 1, "scale": 2}),
]


def torch_model(name: str, arguments: dict[str, Any]) -> tuple[Model, torch.nn.Module]:
    """A network of random weights that act: nothing that a tile could get wrong is zero."""
    torch.manual_seed(3)
    module = MODELS[name].build(arguments).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    card = {"model": name, "arguments": arguments}
    scale = float(module.scale)  # type: ignore[arg-type]
    return Model(name, MODELS[name], as_int_if_whole(scale), card, None, None, ""), module


def make_all(runner: Engine, frames: list[np.ndarray]) -> list[np.ndarray]:
    return list(upscale_frames(frames, engine=runner))


def same_but_for_rounding(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    # A convolution of another size may add in another order: a half may round the other way.
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1
        assert (a != b).mean() < (0.001 if a.dtype == np.uint8 else 0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_tiles_make_the_picture_of_the_whole_frame_with_its_state(
    name: str, scale: int, kind: type, dtype: type
) -> None:
    model = load_model(name, scale)
    frames = moving_frames(4, 101, 134, dtype)  # no multiples of anything
    whole, tiled = kind(model), kind(model, tile=48)
    wanted = make_all(whole, frames)
    same_but_for_rounding(make_all(tiled, frames), wanted)
    assert tiled.tile == 48
    assert whole.tile == 0


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_a_network_that_sees_near_makes_the_same_picture_in_tiles(
    name: str, arguments: dict[str, Any]
) -> None:
    model, module = torch_model(name, arguments)
    frames = moving_frames(3, 101, 134, np.uint8)
    wanted = make_all(TorchEngine(model, module=module), frames)
    same_but_for_rounding(make_all(TorchEngine(model, module=module, tile=56), frames), wanted)


@pytest.mark.parametrize(("name", "arguments"), FAR)
def test_a_network_that_sees_far_makes_nearly_that_picture_without_seams(
    name: str, arguments: dict[str, Any]
) -> None:
    model, module = torch_model(name, arguments)
    frames = moving_frames(3, 140, 150, np.uint8)
    wanted = make_all(TorchEngine(model, module=module), frames)
    made = make_all(TorchEngine(model, module=module, tile=112), frames)
    for a, b in zip(made, wanted, strict=True):
        assert a.shape == b.shape
        difference = a.astype(int) - b
        # Where it differs it does so smoothly: no line stands out from its neighbours.
        for axis in (0, 1):
            steps = np.abs(np.diff(difference, axis=axis)).mean(axis=(1 - axis, 2))
            assert steps.max() <= 4 * max(float(np.median(steps)), 0.25)


def test_the_reach_in_the_table_is_as_far_as_the_network_sees() -> None:
    for name, arguments in SMALL:
        model, module = torch_model(name, arguments)
        reach = model.spec.reach
        assert reach is not None
        far = reach(arguments)
        assert far is not None
        frames = np.full((3, 97, 97, 3), 128, np.uint8)
        changed = frames.copy()
        changed[:, 48, 48] = 255
        runner = TorchEngine(model, module=module)
        a, b = (make_all(runner, list(f)) for f in (frames, changed))
        rows = np.nonzero((a[1] != b[1]).any(axis=(1, 2)))[0]
        assert rows.min() >= (48 - far) * model.scale - 1
        assert rows.max() <= (48 + far + 1) * model.scale


def test_a_tile_that_is_too_small_for_the_network_says_which_is_not() -> None:
    with pytest.raises(UsageError, match=r"tile=16 is too small: reel-fast .* Choose 36 or more"):
        OpenVinoEngine(load_model("reel-fast", 2), tile=16)
    model, module = torch_model("tsrcnn", {"size": "small", "scale": 1.23456})
    with pytest.raises(UsageError, match="does not map tiles to whole pixels"):
        TorchEngine(model, module=module, tile=64)


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
def test_a_memory_budget_chooses_the_tile(kind: type) -> None:
    model = load_model("reel-fast", 2)
    frames = moving_frames(2, 300, 400, np.uint8)
    wanted = make_all(kind(model), frames)
    frugal = kind(model, max_memory=16 << 20)
    same_but_for_rounding(make_all(frugal, frames), wanted)
    assert 0 < frugal.tile < 400
    assert frugal._required_bytes(frugal.tile, frugal.tile) <= 16 << 20


def test_a_budget_that_no_tile_meets_is_refused() -> None:
    model, module = torch_model(*FAR[1])
    runner = TorchEngine(model, module=module, max_memory=1 << 20)
    with pytest.raises(DeviceError, match="max_memory=1M is too little: rrdb needs about"):
        runner.run(moving_frames(1, 300, 400, np.uint8)[0])


@pytest.mark.parametrize(("name", "scale"), [("reel-fast", 2), ("reel", 4)])
def test_half_precision_makes_the_same_picture(name: str, scale: int) -> None:
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


def test_a_step_that_cannot_be_captured_is_run_as_it_is() -> None:
    reel: Any = load_model("reel-fast", 2).module()
    frame = torch.rand(1, 3, 8, 8)
    state = reel.zero_state(frame)
    captured = CudaGraphStep(reel.step, frame, state, half=False)  # there is no GPU here
    with torch.no_grad():
        for a, b in zip(captured(frame, state), reel.step(frame, state), strict=True):
            torch.testing.assert_close(a, b)
    assert captured.fits(frame, state, half=False)
    assert not captured.fits(frame, state, half=True)
    assert not captured.fits(frame[..., :4], state, half=False)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"device": "cpu", "engine": "torch"}, ("torch", "cpu", "float32")),
        ({"device": "cpu", "precision": "float32"}, ("openvino", "cpu", "float32")),
        ({"precision": "int8"}, ("openvino", "cpu", "int8")),
        ({"engine": "openvino", "precision": "float32"}, ("openvino", "cpu", "float32")),
        ({"device": "cuda"}, ("torch", "cuda", "auto")),
        ({"device": "cuda", "precision": "float16"}, ("torch", "cuda", "float16")),
    ],
)
def test_a_choice_follows_what_is_asked(asked: dict[str, str], wanted: tuple[str, ...]) -> None:
    chosen = engine_choice(load_model("reel-fast", 2), **asked)
    assert (chosen.engine, chosen.device, chosen.precision) == wanted
    assert chosen.why == "requested"


def test_a_gpu_is_chosen_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "cuda_available", lambda: True)
    model = load_model("reel-fast", 2)
    assert engine_choice(model).device == "cuda"
    assert engine_choice(model, "cpu").device == "cpu"
    assert engine_choice(model, engine="openvino").device == "cpu"
    monkeypatch.setattr(choose, "cuda_available", lambda: False)
    with pytest.raises(DeviceError, match="PyTorch finds none"):
        engine_choice(model, precision="float16")
    with pytest.raises(UsageError, match="slower on a CPU"):
        engine_choice(model, "cpu", precision="float16")


def test_a_network_without_saved_graph_is_built_from_its_weights(tmp_path: Path) -> None:
    bundled = load_model("reel-fast", 2)
    assert bundled.tensors is not None
    alone = load_model(shutil.copy(bundled.tensors, tmp_path / "alone.safetensors"))
    assert (alone.graph, choose_engine(alone, "cpu").name) == (None, "openvino")
    frames = moving_frames(3, 24, 32, np.uint8)
    one, two = (make_all(OpenVinoEngine(model), frames) for model in (alone, bundled))
    np.testing.assert_array_equal(one, two)


class Scarce(torch.nn.Module):
    """A network in a machine that has room for so many pixels at a time."""

    def __init__(self, network: Any, pixels: int) -> None:
        super().__init__()
        self.network, self.pixels, self.scale = network, pixels, network.scale
        self.past, self.future = getattr(network, "past", 0), getattr(network, "future", 0)
        self.sizes: list[tuple[int, int]] = []

    def ration(self, x: torch.Tensor) -> None:
        self.sizes.append((x.shape[-2], x.shape[-1]))
        if x.shape[-2] * x.shape[-1] > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    def zero_state(self, frame: torch.Tensor) -> Any:
        return self.network.zero_state(frame)

    def step(self, frame: torch.Tensor, state: torch.Tensor) -> Any:
        self.ration(frame)
        return self.network.step(frame, state)

    def along(self, clip: torch.Tensor, *more: Any) -> Any:
        self.ration(clip)
        return self.network.along(clip, *more)

    def forward(self, clip: torch.Tensor) -> Any:
        self.ration(clip)
        return self.network(clip)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("reel-fast", {"scale": 2}), ("tsrcnn", {"size": "small", "scale": 2}), *FAR[3:4]],
)
def test_out_of_memory_halves_the_tile_and_makes_every_frame(
    name: str, arguments: dict[str, Any]
) -> None:
    model, module = torch_model(name, arguments)
    frames = moving_frames(5, 150, 210, np.uint8)
    scarce = Scarce(module, 120 * 120)
    runner = TorchEngine(model, module=scarce)
    made = make_all(runner, frames)
    assert len(made) == 5
    assert runner.tile == {"reel-fast": 104, "tsrcnn": 105}.get(name, 105)
    wanted = make_all(TorchEngine(model, module=module, tile=runner.tile), frames)
    same_but_for_rounding(made, wanted)
    over = [size for size in scarce.sizes if size[0] * size[1] > 120 * 120]
    assert len(over) == 1  # the first frame was tried whole once, and never again


def test_memory_that_lacks_for_the_smallest_tile_is_said() -> None:
    model, module = torch_model("tsrcnn", {"size": "small", "scale": 2})
    with pytest.raises(DeviceError, match="Out of memory at 210x150, even in tiles of 20"):
        make_all(
            TorchEngine(model, module=Scarce(module, 10)), moving_frames(1, 150, 210, np.uint8)
        )


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs limits of a process")
def test_a_process_with_little_memory_makes_every_frame_in_tiles(tmp_path: Path) -> None:
    """Really too little: RRDBNet on a frame it cannot hold, under a limit of the system's."""
    torch.save(
        MODELS["rrdb"].build({"scale": 4, "channels": 32, "blocks": 1}).state_dict(),
        tmp_path / "m.pth",
    )
    code = f"""
import resource
import numpy as np, torch
from sharpreel.engines import pytorch
from sharpreel.models import weights
torch.set_num_threads(1)
model = weights.load_model({str(tmp_path / "m.pth")!r})
runner = pytorch.TorchEngine(model, tile=None)
runner._largest_tile = lambda height, width: 0  # try it whole, whatever was reckoned
runner.run(np.zeros((32, 32, 3), np.uint8))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + (700 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
picture = runner.run(np.zeros((512, 512, 3), np.uint8))
print(picture.shape, runner.tile)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "(2048, 2048, 3)" in done.stdout
    assert 0 < int(done.stdout.split()[-1]) < 512


AFTER_ENGINES = """
import gc, os, signal
import numpy as np
from sharpreel.engines.cuda_graph import CudaGraphStep
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.models.weights import load_model
one, two = (OpenVinoEngine(load_model("bicubic", scale)) for scale in (2, 4))
for runner in (one, two):
    runner.run(np.zeros((8, 8, 3), np.uint8))
del one
gc.collect()
del two, runner
gc.collect()
signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_engines_have_gone_is_no_crash() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_ENGINES], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "handled\n")
