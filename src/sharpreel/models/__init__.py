"""The table of networks. Everything else in the house knows a network by its row here.

A row says how to build the network and how much time it needs; it imports nothing heavy. `build`
imports torch when it is called, so the core runs without it. See CONTRIBUTING.md, "Add a model".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    State = Mapping[str, Tensor]
    Found = tuple[dict[str, Any], dict[str, Tensor]] | None


@dataclass(frozen=True)
class ModelSpec:
    """What the house must know of a network.

    Attributes:
        summary: One line for `sharpreel models`.
        scales: Integer factors it exists for.
        build: (arguments) -> the torch module, (N, T, C, H, W) -> (N, T, C, sH, sW).
        recurrent: "causal" when a state runs forward through the video, "both" when forward and
            backward through a clip, None when not. A network without state that looks at
            neighbours says at how many by its attributes `past` and `future`.
        warm_up: Frames a recurrent network must see before a frame, started anew, for its picture
            to equal the uncut run's (tested: 60 dB and more).
        clip_len, overlap: Of a "both": frames made at once, and frames beside them that it sees.
        multiple_of: The engine pads lr height and width to this.
        licence: Of the bundled weights, or of the code the network follows.
        bundled: Are there weights in the package?
        source: Where weights come from when there are none.
        recognise: (tensors, file name) -> arguments for `build` and the tensors under the module's
            names, or None when a checkpoint is of another network.
        choices: Arguments that leave no trace in a checkpoint and the user may set (`--set`), each
            with what it can be: bool, int, or some words.
        reach: (arguments) -> lr pixels beyond a pixel that its picture depends on in one step, for
            tiles that join exactly; None, or no function: too many.
        context: Which frames it looks at, for `sharpreel models`.
    """

    summary: str
    scales: tuple[int, ...]
    build: Callable[[Mapping[str, Any]], nn.Module]
    recurrent: Literal["causal", "both"] | None = None
    warm_up: int = 0
    clip_len: int = 0
    overlap: int = 0
    multiple_of: int = 1
    licence: str = "Apache-2.0"
    bundled: bool = True
    source: str = "in the package"
    recognise: Callable[[State, str], Found] | None = None
    choices: Mapping[str, type | tuple[str, ...]] = field(default_factory=dict)
    reach: Callable[[Mapping[str, Any]], int | None] | None = None
    context: str = "1"


def _bicubic(arguments: Mapping[str, Any]) -> nn.Module:
    from sharpreel.models.reel import Bicubic

    return Bicubic(**arguments)


def _reel(arguments: Mapping[str, Any]) -> nn.Module:
    from sharpreel.models.reel import Reel

    return Reel(**arguments)


def _reel_quality(arguments: Mapping[str, Any]) -> nn.Module:
    from sharpreel.models.reel_quality import ReelQuality

    return ReelQuality(**arguments)


# The files of the networks that come without weights; imported when they are asked for.


def _tsrcnn() -> Any:
    from sharpreel.models import tsrcnn

    return tsrcnn


def _srgan() -> Any:
    from sharpreel.models import srgan

    return srgan


def _srvgg() -> Any:
    from sharpreel.models import srvgg

    return srvgg


def _rrdb() -> Any:
    from sharpreel.models import rrdb

    return rrdb


def _rbpn() -> Any:
    from sharpreel.models import rbpn

    return rbpn


def _basicvsr() -> Any:
    from sharpreel.models import basicvsr

    return basicvsr


def _basicvsrpp() -> Any:
    from sharpreel.models import basicvsrpp

    return basicvsrpp


def _recognise_tsrcnn(state: State, file_name: str) -> Found:
    found: Found = _tsrcnn().recognise(state)
    if found is None:
        return None
    arguments, tensors = found
    named = _tsrcnn().read_name(file_name)  # nothing else tells the factor
    frames = named.get("past", 0) + named.get("future", 0)
    if named.get("size") == arguments["size"] and frames == arguments["past"] + arguments["future"]:
        arguments = arguments | named
    return arguments, tensors


def _reel_reach(arguments: Mapping[str, Any]) -> int:
    return (int(arguments.get("blocks", 5)) + 2) * int(arguments.get("unshuffle", 2))


def _reel_spec(summary: str, scales: tuple[int, ...], multiple_of: int = 1) -> ModelSpec:
    """A row of the Reel family; `multiple_of` is its `unshuffle`."""
    return ModelSpec(
        summary=summary,
        scales=scales,
        build=_reel,
        recurrent="causal",
        warm_up=12,
        multiple_of=multiple_of,
        reach=_reel_reach,
        context="all past",
    )


def _tsrcnn_reach(arguments: Mapping[str, Any]) -> int:
    border = 9 if arguments.get("size") == "large" else 6  # at the size of the output
    return math.ceil(border / float(arguments.get("scale", 2))) + 3


def _srgan_reach(arguments: Mapping[str, Any]) -> int | None:
    if arguments["network"] == "fast":
        return None  # instance normalisation sees the whole frame
    return 20 if arguments["network"] == "srresnet" else 12


MODELS: dict[str, ModelSpec] = {
    "bicubic": ModelSpec(
        summary="MATLAB's bicubic, the baseline",
        scales=(2, 4),
        build=_bicubic,
        reach=lambda arguments: 2,
    ),
    "reel-fast": _reel_spec(
        summary="small recurrent network for streaming on a CPU",
        scales=(2, 4),
        multiple_of=2,
    ),
    "reel": _reel_spec(
        summary="wider recurrent network, for a film overnight on a CPU or live on a GPU",
        scales=(2, 4),
    ),
    "reel-live": _reel_spec(
        summary="reel-fast for webcams and calls: learned from noisy, compressed video",
        scales=(2,),
        multiple_of=2,
    ),
    "reel-gan": _reel_spec(
        summary="reel with texture that it makes up, for eyes and not for PSNR",
        scales=(4,),
    ),
    "reel-quality": ModelSpec(
        summary="reel in both directions of time, for a GPU or a patient CPU",
        scales=(4,),
        build=_reel_quality,
        recurrent="both",
        clip_len=20,
        overlap=15,  # with less a still scene flickers where clips meet
        context="15+20+15",
    ),
    "tsrcnn": ModelSpec(
        summary="three convolutions over the frame before, this one and the next",
        scales=(2, 3, 4),
        build=lambda arguments: _tsrcnn().TSRCNN(**arguments),
        licence="not stated",
        bundled=False,
        source="Dawid64/super-enhanced-resolution",
        recognise=_recognise_tsrcnn,
        choices={"past": int, "future": int},
        reach=_tsrcnn_reach,
        context="1+1+1",
    ),
    "srgan": ModelSpec(
        summary="image networks: SRResNet, Fast-SRGAN, MobileNetV2-style",
        scales=(2, 4, 8),
        build=lambda arguments: _srgan().build(**arguments),
        licence="see source",
        bundled=False,
        source="amanchadha/iSeeBetter, HasnainRaz/Fast-SRGAN",
        recognise=lambda state, _: _srgan().recognise(state),
        reach=_srgan_reach,
    ),
    "srvgg": ModelSpec(
        summary="image network of Real-ESRGAN's animevideov3 and general-x4v3",
        scales=(2, 3, 4),
        build=lambda arguments: _srvgg().SRVGG(**arguments),
        licence="BSD-3-Clause",
        bundled=False,
        source="xinntao/Real-ESRGAN",
        recognise=lambda state, _: _srvgg().recognise(state),
        reach=lambda arguments: int(arguments["convs"]) + 2,
    ),
    "rrdb": ModelSpec(
        summary="image network of ESRGAN and RealESRGAN_x4plus",
        scales=(1, 2, 4),
        build=lambda arguments: _rrdb().RRDBNet(**arguments),
        licence="BSD-3-Clause",
        bundled=False,
        source="xinntao/ESRGAN, xinntao/Real-ESRGAN",
        recognise=lambda state, _: _rrdb().recognise(state),
    ),
    "rbpn": ModelSpec(
        summary="recurrent back-projection over six neighbours with optical flow; iSeeBetter",
        scales=(2, 4, 8),
        build=lambda arguments: _rbpn().RBPN(**arguments),
        licence="MIT",
        bundled=False,
        source="alterzero/RBPN-PyTorch, amanchadha/iSeeBetter",
        recognise=lambda state, _: _rbpn().recognise(state),
        choices={"past_only": bool, "residual": bool, "flow": ("dis", "coarse2fine", "none")},
        context="3+1+3",
    ),
    "basicvsr": ModelSpec(
        summary="bidirectional recurrent network with optical flow",
        scales=(2, 4),
        build=lambda arguments: _basicvsr().BasicVSR(**arguments),
        recurrent="both",
        clip_len=15,
        overlap=5,
        bundled=False,
        source="XPixelGroup/BasicSR, open-mmlab/mmagic",
        recognise=lambda state, _: _basicvsr().recognise(state),
        context="5+15+5",
    ),
    "basicvsrpp": ModelSpec(
        summary="BasicVSR++: second-order propagation with deformable alignment",
        scales=(1, 2, 4),
        build=lambda arguments: _basicvsrpp().BasicVSRPlusPlus(**arguments),
        recurrent="both",
        clip_len=15,
        overlap=5,
        bundled=False,
        source="ckkelvinchan/BasicVSR_PlusPlus, open-mmlab/mmagic",
        recognise=lambda state, _: _basicvsrpp().recognise(state),
        context="5+15+5",
    ),
}
DEFAULT_MODEL = "reel"
LIVE_MODEL = "reel-live"  # of sources without an end
