"""The table of networks. Everything else in the house knows a network by its row here.

A row says how to build the network and how much time it needs; it imports nothing heavy. `build`
imports torch when it is called, so the core runs without it. See CONTRIBUTING.md, "Add a model".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelSpec:
    """What the house must know of a network.

    Attributes:
        summary: One line for `sharpreel models`.
        scales: Integer factors it exists for.
        build: (arguments) -> the torch module, (N, T, C, H, W) -> (N, T, C, sH, sW).
        past, future: Frames of context before and after the one being made.
        recurrent: "causal" when a state runs forward through the video, None when not.
        warm_up: Frames a recurrent network must see before a frame, started anew, for its picture
            to equal the uncut run's (tested: 60 dB and more).
        multiple_of: The engine pads lr height and width to this.
        licence: Of the bundled weights.
    """

    summary: str
    scales: tuple[int, ...]
    build: Callable[[Mapping[str, Any]], nn.Module]
    past: int = 0
    future: int = 0
    recurrent: Literal["causal"] | None = None
    warm_up: int = 0
    multiple_of: int = 1
    licence: str = "Apache-2.0"


def _bicubic(arguments: Mapping[str, Any]) -> nn.Module:
    from sharpreel.models.reel import Bicubic

    return Bicubic(**arguments)


def _reel(arguments: Mapping[str, Any]) -> nn.Module:
    from sharpreel.models.reel import Reel

    return Reel(**arguments)


MODELS: dict[str, ModelSpec] = {
    "bicubic": ModelSpec(
        summary="MATLAB's bicubic, the baseline",
        scales=(2, 4),
        build=_bicubic,
    ),
    "reel-fast": ModelSpec(
        summary="small recurrent network for streaming on a CPU",
        scales=(2, 4),
        build=_reel,
        past=1,
        recurrent="causal",
        warm_up=12,
        multiple_of=2,
    ),
}
DEFAULT_MODEL = "reel-fast"
