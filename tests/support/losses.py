"""Tensors, scores and references for the tests of losses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


def rand(*shape: int, seed: int = 0) -> Tensor:
    """float64, so that a reference in NumPy agrees to the last digits."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def two(*shape: int) -> tuple[Tensor, Tensor]:
    """An sr near its hr, outside [0, 1] in places, and that hr."""
    hr = rand(*shape)
    return hr + 0.3 * (rand(*shape, seed=1) - 0.5), hr


def gradient(loss: Callable[[Tensor], Tensor], sr: Tensor) -> Tensor:
    leaf = sr.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    return found


def published_tv(x: Array) -> float:
    """iSeeBetter's, value by value."""
    n, c, h, w = x.shape
    vertical = sum(
        (x[i, j, k + 1, m] - x[i, j, k, m]) ** 2
        for i in range(n)
        for j in range(c)
        for k in range(h - 1)
        for m in range(w)
    )
    horizontal = sum(
        (x[i, j, k, m + 1] - x[i, j, k, m]) ** 2
        for i in range(n)
        for j in range(c)
        for k in range(h)
        for m in range(w - 1)
    )
    return float(2 * (vertical / (c * (h - 1) * w) + horizontal / (c * h * (w - 1))) / n)


FAKE = torch.tensor([[-1.5, 0.2], [0.7, -0.4]], dtype=torch.float64)  # logits


REAL = torch.tensor([[1.1, -0.3], [2.5, 0.6]], dtype=torch.float64)
