"""Fixtures of the network tests: one CPU thread, fixed random numbers, small padding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sharpreel.models import basicvsr, basicvsrpp


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small frames gain nothing from threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seeded() -> Iterator[None]:
    """Fixed random numbers, no gradients."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        yield


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks do not pad to 64 pixels, which makes tests quick."""
    monkeypatch.setattr(basicvsr, "SMALLEST", 16)
    monkeypatch.setattr(basicvsrpp, "SMALLEST", 16)
