"""Finds the number format that trains fastest on this CPU, by a trial of at most a second."""

from __future__ import annotations

import time
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F

CHANNELS, SIDE, BATCH, LAYERS = 64, 48, 2, 3  # the shape of a typical network
REPEATS = 3
WORTH_IT = 1.3  # times faster: a network in bf16 also loses a little accuracy


@cache
def fastest_on_cpu() -> Literal["32", "bf16"]:
    """ "bf16" where a training step takes clearly less time in it, such as with AMX, else "32".

    Processors without instructions for bf16 emulate it and are up to twenty times slower; whether
    those that have some gain from them differs by model. So it is measured, once a process.
    """
    full = seconds_per_step(torch.float32)
    half = seconds_per_step(torch.bfloat16, limit=full)
    return "bf16" if half * WORTH_IT < full else "32"


def seconds_per_step(dtype: torch.dtype, limit: float = float("inf")) -> float:
    """The least time of some forward and backward passes through 3x3 convolutions.

    Args:
        dtype: torch.float32, or torch.bfloat16 by autocast.
        limit: After a pass that takes longer than three times this, no more are tried.
    """
    with torch.random.fork_rng(devices=[]):
        x = torch.rand(BATCH, CHANNELS, SIDE, SIDE).to(memory_format=torch.channels_last)
        kernels = [
            (0.05 * torch.randn(CHANNELS, CHANNELS, 3, 3)).requires_grad_() for _ in range(LAYERS)
        ]
    best = float("inf")
    for _ in range(1 + REPEATS):  # the first allocates memory and chooses kernels
        began = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            y = x
            for kernel in kernels:
                y = F.relu(F.conv2d(y, kernel, padding=1))
        torch.autograd.grad(y.float().mean(), kernels)
        spent = time.perf_counter() - began
        best = min(best, spent)
        if spent > 3 * limit:
            break
    return best
