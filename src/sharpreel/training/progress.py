"""Progress of a training run: what callbacks and trackers receive at each save."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np


@dataclass
class TrainProgress:
    """Progress since the last save; passed to `on_progress`.

    Attributes:
        step, steps: Steps done, of how many.
        loss: Mean since the last save; None before the first step.
        waited: Share of the time that the network waited for data, in [0, 1].
        terms: Means of the other terms of the loss by name, and of "psnr" and "ssim" of batches.
        psnr, gain_db: Of the validation, dB; None when this save was not validated.
        note: A warning for people, or "".
    """

    step: int
    steps: int
    loss: float | None
    seconds_per_step: float
    waited: float
    terms: dict[str, float] = field(default_factory=dict)
    psnr: float | None = None
    gain_db: float | None = None
    note: str = ""


class Interval:
    """Steps between two saves: their terms, how long they took and how long data kept them waiting.

    Args:
        step: The step that it begins at.
    """

    def __init__(self, step: int) -> None:
        self._first = step
        self._began = time.monotonic()
        self._waited = 0.0
        self._terms: list[dict[str, float]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def add(self, terms: dict[str, float]) -> None:
        self._terms.append(terms)

    def progress(self, step: int, steps: int) -> TrainProgress:
        """Return the means up to this step, of `steps`."""
        means = mean_terms(self._terms)
        done, seconds = step - self._first, time.monotonic() - self._began
        return TrainProgress(
            step,
            steps,
            means.pop("loss", None),
            seconds / done if done else 0.0,
            self._waited / seconds if done else 0.0,
            means,
        )


def mean_terms(terms: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each term over the steps that have it, in order of first appearance."""
    names = dict.fromkeys(name for step in terms for name in step)
    return {name: float(np.mean([t[name] for t in terms if name in t])) for name in names}
