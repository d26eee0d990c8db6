"""Telling a checkpoint's network from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# What wrappers put before every name: DataParallel, torch.compile, mmediting, Lightning.
PREFIXES = ("module.", "_orig_mod.", "generator.")
COUNTER = ".num_batches_tracked"


def bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `state` without the prefixes that all of its names share."""
    tensors = dict(state)
    while tensors:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def count(state: Mapping[str, Tensor], before: str, after: str) -> int:
    """How many different numbers stand between `before` and `after` in the names.

    body.0.weight, body.0.bias, body.3.weight; before = "body.", after = ".weight"  ->  2
    """
    found = {
        name.removeprefix(before).removesuffix(after)
        for name in state
        if name.startswith(before) and name.endswith(after)
    }
    return sum(number.isdecimal() for number in found)


def fits(
    build: Callable[..., nn.Module], arguments: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """`tensors`, complete for `build(**arguments)`, or None when a name or a shape is not its own.

    The module is built without memory. Files older than PyTorch 0.4.1 have no counters in their
    batch normalisation; nothing but training reads these, so they start at zero.
    """
    with torch.device("meta"):
        wanted = build(**arguments).state_dict()
    found = dict(tensors)
    if not any(name.endswith(COUNTER) for name in found):
        found |= {
            name: torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
            for name, tensor in wanted.items()
            if name.endswith(COUNTER)
        }
    if found.keys() != wanted.keys():
        return None
    if any(found[name].shape != wanted[name].shape for name in wanted):
        return None
    return found
