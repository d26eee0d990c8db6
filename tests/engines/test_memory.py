"""memory.py: how much there is, and how much a network takes."""

from __future__ import annotations

import subprocess
import sys

import openvino as ov
import pytest
import torch
from openvino import opset13 as op

from sharpreel.engines.memory import SCRATCH, graph_bytes, torch_bytes
from sharpreel.errors import UsageError
from sharpreel.models.weights import load_model
from sharpreel.system.resources import free_bytes
from sharpreel.system.text import parse_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (None, None),
        ("800M", 800 << 20),
        ("4G", 4 << 30),
        ("1.5gib", 3 << 29),
        ("2097152", 2 << 20),
        ("4 GB", 4 << 30),
    ],
)
def test_an_amount_of_memory_is_read(text: str | None, amount: int | None) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["much", "4X", "-1G", "0", "1000"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an amount of memory"):
        parse_bytes(text)


def test_the_peak_is_what_lives_at_one_time_and_not_the_sum() -> None:
    def chain(steps: int) -> None:
        x = torch.zeros(1 << 20)  # 4 MiB
        for _ in range(steps):
            x = x + 1  # before and after live together

    few, many = (torch_bytes(lambda n=n: chain(n)) for n in (2, 20))  # type: ignore[misc]
    assert few == many
    assert few == pytest.approx(2 * (4 << 20) * SCRATCH, rel=0.01)


def test_reckoning_allocates_nothing() -> None:
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


def test_free_memory_is_known_and_no_more_than_a_limit_leaves() -> None:
    free = free_bytes()
    if free is None:
        pytest.skip("this system does not tell")
    assert free > 1 << 20
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "from sharpreel.system import resources; print(resources.free_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(done.stdout) < 1 << 30
