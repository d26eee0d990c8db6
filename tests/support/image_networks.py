"""Layers of image networks restated as plain functions, for tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[str, Tensor]


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in inference mode with random slopes, biases and batch statistics.

    Fresh ones are zeros and ones, with which half of the equations could be missing.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if not tensor.dtype.is_floating_point or tensor.ndim != 1:
            continue
        low = 0.01 if name.endswith("running_var") else -0.2
        tensor.copy_(low + 0.4 * torch.rand(tensor.shape, generator=generator))
    return module.eval()


def close(got: Tensor, wanted: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(got, wanted, atol=atol, rtol=1e-4)


class Layers:
    """Plain functions over a state dict: layers by name."""

    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)

    def prelu(self, x: Tensor, name: str) -> Tensor:
        slope = self.state[f"{name}.weight"].reshape(1, -1, 1, 1)
        return torch.where(x > 0, x, slope * x)

    def norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{name}.{kind}"].reshape(1, -1, 1, 1)
            for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + eps).sqrt() * weight + bias
