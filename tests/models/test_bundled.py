"""The trained networks in the package: what each gains, and that it holds through a long scene."""

from __future__ import annotations

import functools
import hashlib
import itertools

import numpy as np
import pytest
import safetensors.torch

from sharpreel import ops
from sharpreel.engines.base import Engine
from sharpreel.engines.choose import choose_engine
from sharpreel.models import MODELS, weights
from sharpreel.models.weights import load_model
from sharpreel.upscale import upscale_frames

ROWS = [
    (name, scale)
    for name, spec in MODELS.items()
    if spec.bundled and name != "bicubic"
    for scale in spec.scales
]


# dB above bicubic on `drawing`, measured when the weights were bundled.
GAIN = {
    ("reel-fast", 2): 1.58,
    ("reel-fast", 4): 2.29,
    ("reel", 2): 3.13,
    ("reel", 4): 2.28,
    ("reel-live", 2): 1.00,
    ("reel-gan", 4): 2.40,
    ("reel-quality", 4): 2.45,
}


@functools.cache
def drawing(scale: int, frames: int = 8, side: int = 48) -> np.ndarray:
    """Discs, stripes and strokes that drift by fractions of a lr pixel: (T, s * side, s * side, 3).

    Drawn from formulas, four samples a pixel, so the same on every machine.
    """
    n = 2 * scale * side
    y, x = np.mgrid[:n, :n] / n
    images = []
    for t in range(frames):
        u, v = x + 0.4 * t / side, y - 0.3 * t / side
        colour = np.stack([0.5 + 0.3 * np.sin(5 * u), 0.5 + 0.3 * np.cos(4 * v), 0.4 + 0 * u])
        for k, (cx, cy, r) in enumerate([(0.3, 0.3, 0.17), (0.8, 0.25, 0.1), (0.55, 0.75, 0.2)]):
            colour[k % 3][(u - cx) ** 2 + (v - cy) ** 2 < r**2] = 0.9
        colour[:, np.abs((3 * u + v) % 0.25 - 0.12) < 0.012] = 0.05
        colour[:, (np.abs(v - 0.5) < 0.06) & (np.sin(90 * u) > 0)] = 0.95
        small = colour.reshape(3, n // 2, 2, n // 2, 2).mean((2, 4))
        images.append(np.rint(255 * small.transpose(1, 2, 0)).astype(np.uint8))
    return np.stack(images)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def gain(name: str, scale: int, precision: str) -> float:
    """Mean over frames of PSNR above bicubic's."""
    hr = drawing(scale)
    lr = [ops.resize(frame, 48, 48) for frame in hr]
    scores = []
    for which in (name, "bicubic"):
        model = load_model(which, scale)
        runner = choose_engine(model, "cpu", precision=precision if which == name else "float32")
        sr = upscale_frames(lr, engine=runner)
        scores.append(np.mean([psnr(a, b) for a, b in zip(sr, hr, strict=True)]))
    return float(scores[0] - scores[1])


def runner_of(name: str, scale: int) -> Engine:
    return choose_engine(load_model(name, scale), "cpu", precision="float32")


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_a_bundled_network_keeps_its_measured_gain(name: str, scale: int) -> None:
    assert gain(name, scale, "float32") == pytest.approx(GAIN[name, scale], abs=0.05)


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_a_still_scene_neither_drifts_nor_flickers(name: str, scale: int) -> None:
    hr = drawing(scale, 1, 24)[0]
    lr = ops.resize(hr, 24, 24)
    sr = list(upscale_frames(itertools.repeat(lr, 500), engine=runner_of(name, scale)))
    assert psnr(sr[499], hr) >= psnr(sr[19], hr) - 0.1
    late = np.stack(sr[400:]).astype(np.int16)
    assert np.abs(np.diff(late, axis=0)).mean() < 0.05  # levels


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_a_scene_cut_clears_the_state(name: str, scale: int) -> None:
    first = [np.full((48, 48, 3), 20, np.uint8)] * 3
    second = [ops.resize(frame, 48, 48) for frame in drawing(scale)[:4]]
    after = list(upscale_frames([*first, *second], engine=runner_of(name, scale)))[3:]
    alone = list(upscale_frames(second, engine=runner_of(name, scale)))
    np.testing.assert_array_equal(after, alone)


BUNDLED = [("reel-fast", 2), ("reel-fast", 4)]


@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_a_bundled_card_documents_how_the_weights_were_trained(name: str, scale: int) -> None:
    card = load_model(name, scale).card
    assert card["licence"] == "Apache-2.0"
    assert card["arguments"]["scale"] == scale
    assert card["steps"] > 0
    assert "noncommercial" not in card["data"]["clips by rights"]
    scores = card["val_psnr_y"]["clips"]
    assert len(scores) == 10
    for clip, (bicubic, psnr) in scores.items():
        assert psnr > bicubic + 0.3, clip


@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_the_checksum_in_the_header_is_that_of_the_tensors(name: str, scale: int) -> None:
    model = load_model(name, scale)
    assert model.tensors is not None
    tensors = safetensors.torch.load_file(model.tensors)
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].numpy().tobytes())
    assert model.card["tensors_sha256"] == digest.hexdigest()


def test_all_bundled_files_together_stay_small() -> None:
    sizes = {path.name: path.stat().st_size for path in weights.BUNDLED.iterdir()}
    large = sizes.pop("reel-quality_x4.safetensors", 0)
    assert sum(sizes.values()) <= 12e6
    assert large <= 20e6
