"""A step is captured as a CUDA graph, or run without one."""

from __future__ import annotations

from typing import Any

import torch

from sharpreel.engines.cuda_graph import CudaGraphStep
from sharpreel.models.weights import load_model


def test_a_step_that_cannot_be_captured_runs_without_a_graph() -> None:
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
