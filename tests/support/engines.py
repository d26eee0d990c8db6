"""Frames and small networks for tests of engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sharpreel import ops
from sharpreel.engines.base import Engine
from sharpreel.models import MODELS
from sharpreel.models.weights import Model, as_int_if_whole, load_model
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
