"""The OpenVINO graph of Reel computes what the network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sharpreel.engines.openvino import OpenVinoEngine, openvino_core
from sharpreel.models import DEFAULT_MODEL
from sharpreel.models.weights import load_model


def test_the_graph_agrees_to_the_edge_from_the_first_frame() -> None:
    """What lies outside of a frame is the same grey in both, and the frame before it is itself."""
    model = load_model(DEFAULT_MODEL)
    noise = np.random.default_rng(3).integers(0, 256, (2, 24, 32, 3), np.uint8)
    graph, reel = OpenVinoEngine(model, precision="float32"), model.module()
    with torch.no_grad():
        clip = torch.from_numpy(noise).permute(0, 3, 1, 2)[None].float() / 255
        sr, _ = reel(clip)
    for frame, wanted in zip(noise, sr[0], strict=True):
        levels = wanted.clamp(0, 1).permute(1, 2, 0).numpy() * 255
        assert np.abs(graph.run(frame) - levels).max() < 0.5 + 5e-3  # rounding, and no more


def test_a_graph_accepts_any_size(tmp_path: Path) -> None:
    graph = openvino_core().read_model(load_model("reel-fast", 2).graph)
    assert graph.input("frame").partial_shape.to_string() == "[1,?,?,3]"
