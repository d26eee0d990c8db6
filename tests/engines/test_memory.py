"""The memory a network needs is estimated without allocating it."""

from __future__ import annotations

import openvino as ov
import pytest
import torch
from openvino import opset13 as op

from sharpreel.engines.memory import SCRATCH, graph_bytes, torch_bytes
from sharpreel.models.weights import load_model


def test_the_peak_is_what_exists_at_one_time_and_not_the_sum() -> None:
    def chain(steps: int) -> None:
        x = torch.zeros(1 << 20)  # 4 MiB
        for _ in range(steps):
            x = x + 1  # before and after live together

    few, many = (torch_bytes(lambda n=n: chain(n)) for n in (2, 20))  # type: ignore[misc]
    assert few == many
    assert few == pytest.approx(2 * (4 << 20) * SCRATCH, rel=0.01)


def test_estimating_allocates_nothing() -> None:
    huge = torch_bytes(lambda: torch.zeros(1 << 40).mul(2))
    assert huge > 8 << 40


def test_a_graph_holds_what_is_read_later() -> None:
    x = op.parameter([1, 1, 256, 256], ov.Type.f32)  # 256 KiB
    a = op.relu(x)
    b = op.relu(op.relu(a))
    graph = ov.Model([op.add(a, b)], [x])
    one = 256 * 256 * 4
    # a lives until the sum: with it b and its input, or b and the sum.
    assert graph_bytes(graph) == pytest.approx(3 * one * SCRATCH, rel=0.35)
    wide = load_model("reel-fast", 2).graph
    assert wide is not None
