"""Third-party checkpoints: safe loading, and the tools to recognise a network by its tensors.

Each network's file has a function `recognise` that uses them.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpreel.errors import WeightsError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a .safetensors or .pth file; no code in the file is executed.

    Raises:
        WeightsError: It is not a file of tensors.
    """
    what = "a file of tensors (.pth, .safetensors)"
    content = read_content(path, what)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: not {what}. No code in the file was executed.")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


# Prefixes that wrappers add to every name: DataParallel, torch.compile, mmediting, Lightning.
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
    """Number of different integers between `before` and `after` in the names.

    body.0.weight, body.0.bias, body.3.weight; before = "body.", after = ".weight"  ->  2
    """
    between = {
        name.removeprefix(before).removesuffix(after)
        for name in state
        if name.startswith(before) and name.endswith(after)
    }
    return sum(number.isdecimal() for number in between)


def fits(
    build: Callable[..., nn.Module], arguments: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """The complete state dict for `build(**arguments)`, or None when a name or shape differs.

    The module is built on the meta device, without memory. Files older than PyTorch 0.4.1 have no
    counters in their batch normalisation; only training reads these, so they start at zero.
    """
    with torch.device("meta"):
        wanted = build(**arguments).state_dict()
    state = dict(tensors)
    if not any(name.endswith(COUNTER) for name in state):
        state |= {
            name: torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
            for name, tensor in wanted.items()
            if name.endswith(COUNTER)
        }
    if state.keys() != wanted.keys():
        return None
    if any(state[name].shape != wanted[name].shape for name in wanted):
        return None
    return state


# Keys under which training programs save the tensors: averaged ones first.
WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "generator", "netG")


def read_content(path: Path, what: str) -> Any:
    """The content of a file of tensors (.safetensors, else as torch.save writes it).

    No code in the file is executed.

    Args:
        what: What the file should be, for the error message.

    Raises:
        WeightsError: It cannot be read as such a file.
    """
    import safetensors
    import safetensors.torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of old files
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        safetensors.SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        OSError,
    ) as e:
        raise WeightsError(f"{path}: not {what}. No code in the file was executed.") from e


def unwrap(content: Any) -> dict[str, Any]:
    """The state dict inside a checkpoint, whatever it is nested in; {} when there is none."""
    while isinstance(content, Mapping):
        key = next((k for k in WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if key is None:
            return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        content = content[key]
    return {}
