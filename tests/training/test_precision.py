"""precision.py: bf16 where it is clearly faster, and float32 everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sharpreel.training import precision, setup


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    precision.fastest_on_cpu.cache_clear()
    yield
    precision.fastest_on_cpu.cache_clear()


@pytest.mark.parametrize(("half", "chosen"), [(0.4, "bf16"), (0.9, "32"), (20.0, "32")])
def test_bf16_must_be_clearly_faster(
    half: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(dtype: torch.dtype, limit: float = 0) -> float:
        return 1.0 if dtype == torch.float32 else half

    monkeypatch.setattr(precision, "seconds_per_step", seconds)
    assert precision.fastest_on_cpu() == chosen
    fabric = setup.make_fabric("auto", "cpu")
    assert fabric.strategy.precision.precision == ("bf16-mixed" if chosen == "bf16" else "32-true")


def test_the_trial_is_short_and_leaves_the_generator_as_it_is() -> None:
    before = torch.get_rng_state()
    assert 0 < precision.seconds_per_step(torch.float32) < 30
    assert torch.equal(torch.get_rng_state(), before)


def test_a_slow_format_is_given_up_after_its_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0
    real = torch.autograd.grad

    def counted(*arguments: Any) -> Any:
        nonlocal passes
        passes += 1
        return real(*arguments)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    precision.seconds_per_step(torch.float32, limit=0.0)
    assert passes == 1
