"""A small model file for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from sharpreel.models import weights
from sharpreel.models.reel import Reel


def saved_reel(folder: Path, **card: object) -> Path:
    path = folder / "mine.safetensors"
    arguments = {"scale": 2, "channels": 16, "blocks": 2, "unshuffle": 2}
    torch.manual_seed(0)
    tensors = Reel(**arguments).state_dict()
    weights.save_weights(path, tensors, {"model": "reel-fast", "arguments": arguments, **card})
    return path
