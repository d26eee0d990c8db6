"""Tiles give the output of the whole frame, and fit into the memory that is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.engines.pytorch import TorchEngine
from sharpreel.engines.tiling import is_out_of_memory
from sharpreel.errors import DeviceError, UsageError
from sharpreel.models import MODELS
from sharpreel.models.weights import load_model
from tests.support.engines import ROWS, make_all, moving_frames, torch_model

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


def same_but_for_rounding(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    # A convolution of another size may add in another order: a half may round the other way.
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1
        assert (a != b).mean() < (0.001 if a.dtype == np.uint8 else 0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_tiles_give_the_output_of_the_whole_frame_and_its_state(
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
def test_tiles_of_a_near_seeing_network_give_the_output_of_whole_frames(
    name: str, arguments: dict[str, Any]
) -> None:
    model, module = torch_model(name, arguments)
    frames = moving_frames(3, 101, 134, np.uint8)
    wanted = make_all(TorchEngine(model, module=module), frames)
    same_but_for_rounding(make_all(TorchEngine(model, module=module, tile=56), frames), wanted)


@pytest.mark.parametrize(("name", "arguments"), FAR)
def test_tiles_of_a_far_seeing_network_are_close_and_have_no_seams(
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


def test_a_tile_that_is_too_small_names_the_smallest_allowed() -> None:
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


class Scarce(torch.nn.Module):
    """A network on a machine whose memory holds at most N pixels at a time."""

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


def test_too_little_memory_for_the_smallest_tile_is_an_error() -> None:
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
runner._largest_tile = lambda height, width: 0  # try it whole, whatever was estimated
runner.run(np.zeros((32, 32, 3), np.uint8))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + (700 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sr = runner.run(np.zeros((512, 512, 3), np.uint8))
print(sr.shape, runner.tile)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "(2048, 2048, 3)" in done.stdout
    assert 0 < int(done.stdout.split()[-1]) < 512
