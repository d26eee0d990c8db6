"""The table of networks, `MODELS`. All other code knows a network only by its row here.

A row says how to build the network and which frames it needs. It imports nothing heavy: `build`
imports PyTorch when it is called, so the core runs without it. See CONTRIBUTING.md, "Add a model".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import openvino as ov
    from torch import Tensor, nn

    GraphTensors = Mapping[str, npt.NDArray[np.float32]]
    State = Mapping[str, Tensor]
    Found = tuple[dict[str, Any], dict[str, Tensor]] | None


@dataclass(frozen=True)
class ModelSpec:
    """What all other code must know about a network.

    Attributes:
        summary: One line for `sharpreel models`.
        scales: Integer scales it exists for.
        build: (arguments) -> the PyTorch module, (N, T, C, H, W) -> (N, T, C, sH, sW). Rows of one
            architecture share one function.
        recurrent: "causal" when a state runs forward through the video, "both" when it runs
            forward and backward through a clip, None without a state. A network without state that
            looks at neighbours states their number by its attributes `past` and `future`.
        warm_up: Frames that a recurrent network must see before a frame, starting from an empty
            state, for its output to equal that of the uncut run (tested: at least 60 dB).
        clip_len, overlap: For "both": frames per clip, and frames on each side that it also sees.
        multiple_of: The engine pads lr height and width to multiples of this.
        licence: Of the bundled weights, or of the code the network follows.
        bundled: Does the package contain weights?
        trained: Does the network have weights at all?
        source: Where weights come from when none are bundled.
        recognise: (tensors, file name) -> arguments for `build` and the tensors under the module's
            names, or None when a checkpoint is of another network.
        any_scale: Do the tensors fit every scale, so that a checkpoint does not tell it?
        choices: Arguments that cannot be inferred from a checkpoint, and that the user may set,
            each with its type: bool, int, or the allowed strings.
        graph: (tensors, scale, arguments) -> the OpenVINO graph, built without PyTorch; None where
            only OpenVINO's converter can build one.
        int8: Can its graph be quantized to int8?
        reach: (arguments) -> lr pixels around a pixel that its output depends on in one step, for
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
    trained: bool = True
    source: str = "in the package"
    recognise: Callable[[State, str], Found] | None = None
    any_scale: bool = False
    choices: Mapping[str, type | tuple[str, ...]] = field(default_factory=dict)
    graph: Callable[[GraphTensors, int, Mapping[str, Any]], ov.Model] | None = None
    int8: bool = False
    reach: Callable[[Mapping[str, Any]], int | None] | None = None
    context: str = "1"

    def same_architecture(self, other: ModelSpec) -> bool:
        """Do both rows build the same kind of network, perhaps with other arguments?"""
        return self.build is other.build


def _lazy(module: str, name: str) -> Callable[..., Any]:
    """A function that imports `sharpreel.models.<module>` when called, and calls `name` in it."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(f"sharpreel.models.{module}"), name)(*arguments, **options)

    return call


def _builder(module: str, name: str) -> Callable[[Mapping[str, Any]], nn.Module]:
    """`ModelSpec.build` for a class or function that takes the arguments as keywords."""
    build = _lazy(module, name)
    return lambda arguments: build(**arguments)


def _by_tensors(module: str) -> Callable[[State, str], Found]:
    """`ModelSpec.recognise` for a network whose arguments do not depend on the file's name."""
    recognise = _lazy(module, "recognise")
    return lambda state, file_name: recognise(state)


_build_reel = _builder("reel", "Reel")


def _reel_reach(arguments: Mapping[str, Any]) -> int:
    return (int(arguments.get("blocks", 5)) + 2) * int(arguments.get("unshuffle", 2))


def _reel_spec(summary: str, scales: tuple[int, ...], multiple_of: int = 1) -> ModelSpec:
    """A row of the Reel family; `multiple_of` is the network's `unshuffle`."""
    return ModelSpec(
        summary=summary,
        scales=scales,
        build=_build_reel,
        recurrent="causal",
        warm_up=12,
        multiple_of=multiple_of,
        graph=_lazy("openvino_graph", "reel_graph_of"),
        int8=True,
        reach=_reel_reach,
        context="all past",
    )


def _tsrcnn_reach(arguments: Mapping[str, Any]) -> int:
    border = 9 if arguments.get("size") == "large" else 6  # at the size of the output
    return math.ceil(border / float(arguments.get("scale", 2))) + 3


def _srgan_reach(arguments: Mapping[str, Any]) -> int | None:
    if arguments["network"] == "fast":
        return None  # instance normalisation depends on the whole frame
    return 20 if arguments["network"] == "srresnet" else 12


MODELS: dict[str, ModelSpec] = {
    "bicubic": ModelSpec(
        summary="MATLAB's bicubic, the baseline",
        scales=(2, 4),
        build=_builder("reel", "Bicubic"),
        trained=False,
        graph=_lazy("openvino_graph", "bicubic_graph_of"),
        reach=lambda arguments: 2,
    ),
    "reel-fast": _reel_spec(
        summary="small recurrent network for streaming on a CPU",
        scales=(2, 4),
        multiple_of=2,
    ),
    "reel": _reel_spec(
        summary="wider recurrent network, for overnight jobs on a CPU or live video on a GPU",
        scales=(2, 4),
    ),
    "reel-live": _reel_spec(
        summary="reel-fast for webcams and calls: trained on noisy, compressed video",
        scales=(2,),
        multiple_of=2,
    ),
    "reel-gan": _reel_spec(
        summary="reel fine-tuned with a GAN: sharper texture, lower PSNR",
        scales=(4,),
    ),
    "reel-quality": ModelSpec(
        summary="bidirectional reel, for a GPU or overnight on a CPU",
        scales=(4,),
        build=_builder("reel_quality", "ReelQuality"),
        recurrent="both",
        clip_len=20,
        overlap=15,  # with less, a still scene flickers at the seams between clips
        context="15+20+15",
    ),
    "tsrcnn": ModelSpec(
        summary="three convolutions over the previous, the current and the next frame",
        scales=(2, 3, 4),
        build=_builder("tsrcnn", "TSRCNN"),
        licence="not stated",
        bundled=False,
        source="Dawid64/super-enhanced-resolution",
        recognise=_lazy("tsrcnn", "recognise_file"),
        any_scale=True,
        choices={"past": int, "future": int},
        reach=_tsrcnn_reach,
        context="1+1+1",
    ),
    "srgan": ModelSpec(
        summary="image networks: SRResNet, Fast-SRGAN, MobileNetV2-style",
        scales=(2, 4, 8),
        build=_builder("srgan", "build"),
        licence="see source",
        bundled=False,
        source="amanchadha/iSeeBetter, HasnainRaz/Fast-SRGAN",
        recognise=_by_tensors("srgan"),
        reach=_srgan_reach,
    ),
    "srvgg": ModelSpec(
        summary="image network of Real-ESRGAN's animevideov3 and general-x4v3",
        scales=(2, 3, 4),
        build=_builder("srvgg", "SRVGG"),
        licence="BSD-3-Clause",
        bundled=False,
        source="xinntao/Real-ESRGAN",
        recognise=_by_tensors("srvgg"),
        reach=lambda arguments: int(arguments["convs"]) + 2,
    ),
    "rrdb": ModelSpec(
        summary="image network of ESRGAN and RealESRGAN_x4plus",
        scales=(1, 2, 4),
        build=_builder("rrdb", "RRDBNet"),
        licence="BSD-3-Clause",
        bundled=False,
        source="xinntao/ESRGAN, xinntao/Real-ESRGAN",
        recognise=_by_tensors("rrdb"),
    ),
    "rbpn": ModelSpec(
        summary="recurrent back-projection over six neighbours with optical flow; iSeeBetter",
        scales=(2, 4, 8),
        build=_builder("rbpn", "RBPN"),
        licence="MIT",
        bundled=False,
        source="alterzero/RBPN-PyTorch, amanchadha/iSeeBetter",
        recognise=_by_tensors("rbpn"),
        choices={"past_only": bool, "residual": bool, "flow": ("dis", "coarse2fine", "none")},
        context="3+1+3",
    ),
    "basicvsr": ModelSpec(
        summary="bidirectional recurrent network with optical flow",
        scales=(2, 4),
        build=_builder("basicvsr", "BasicVSR"),
        recurrent="both",
        clip_len=15,
        overlap=5,
        bundled=False,
        source="XPixelGroup/BasicSR, open-mmlab/mmagic",
        recognise=_by_tensors("basicvsr"),
        context="5+15+5",
    ),
    "basicvsrpp": ModelSpec(
        summary="BasicVSR++: second-order propagation with deformable alignment",
        scales=(1, 2, 4),
        build=_builder("basicvsrpp", "BasicVSRPlusPlus"),
        recurrent="both",
        clip_len=15,
        overlap=5,
        bundled=False,
        source="ckkelvinchan/BasicVSR_PlusPlus, open-mmlab/mmagic",
        recognise=_by_tensors("basicvsrpp"),
        context="5+15+5",
    ),
}
DEFAULT_MODEL = "reel"
LIVE_MODEL = "reel-live"  # the default for live sources
