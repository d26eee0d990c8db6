"""Speed of every bundled model, engine and precision, and of other networks on the same frames.

    python benchmarks/speed.py [--runs 3] [--json FILE] [--plot FILE] [--quick]
                               [--superres NAME:SCALE:FILE]...

Each measurement is a separate process. All run in turn, `--runs` times; medians are reported. The
other networks are sharpreel's implementations with random weights in torch eager, which is as fast
as with trained weights. OpenCV's dnn_superres (opencv-contrib) runs if a model file is given. Times
are from integer frame to integer frame; on a GPU they come from CUDA events. Start-up is from the
first import to the first output frame.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("160x90", "320x180", "640x360", "1280x720")
ENGINES = ("openvino-int8", "openvino", "torch-cpu", "torch-cuda")
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "TSRCNN small x2": ("tsrcnn", {"size": "small", "scale": 2}),
    "Fast-SRGAN x4": ("srgan", {"network": "fast"}),
    "SRVGGNetCompact 64x16 x4": ("srvgg", {"scale": 4, "channels": 64, "convs": 16}),
    "RBPN x4": ("rbpn", {"scale": 4, "flow": "none"}),
}
SECONDS, MOST = 3.0, 40  # of each measurement, and frames
LIMIT = 120  # seconds of a measurement with its start


@dataclass(frozen=True)
class Row:
    """One network on one engine at one input size; medians over runs."""

    network: str
    engine: str
    size: str
    ms: float
    fps: float
    gflops: float | None  # of arithmetic a second
    share: float | None  # of the machine's matrix-product rate for that type
    rss_mb: float
    startup_seconds: float


def frames(size: str) -> Any:
    """Sliding noise, the same for all networks; enlarged from a quarter, so it is not all edges."""
    import numpy as np

    from sharpreel import ops

    width, height = map(int, size.split("x"))
    noise = np.random.default_rng(0).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    still = ops.resize(noise.astype(np.uint8), height, width)
    return [np.roll(still, 2 * k, axis=1).copy() for k in range(8)]


def runner(network: str, engine: str) -> Callable[[Any], Any]:
    """A function that upscales one frame."""
    if engine == "dnn_superres":
        return _superres(network)
    from sharpreel.engines.openvino import OpenVinoEngine
    from sharpreel.engines.pytorch import TorchEngine
    from sharpreel.models.weights import load_model

    if network in PEERS:
        model, module = _peer(network)
        return TorchEngine(model, engine.removeprefix("torch-"), module=module).run
    name, _, scale = network.rpartition(" x")
    model = load_model(name, int(scale))
    if engine.startswith("torch"):
        return TorchEngine(model, engine.removeprefix("torch-")).run
    precision = "int8" if engine == "openvino-int8" else "float32"
    return OpenVinoEngine(model, precision=precision).run


def _peer(network: str) -> tuple[Any, Any]:
    from sharpreel.models import MODELS
    from sharpreel.models.weights import Model, as_int_if_whole

    name, arguments = PEERS[network]
    module: Any = MODELS[name].build(arguments)
    card = {"model": name, "arguments": arguments}
    scale = as_int_if_whole(module.scale)
    return Model(name, MODELS[name], scale, card, None, None, ""), module.eval()


def _superres(network: str) -> Callable[[Any], Any]:
    import cv2

    name, scale, path = network.split(":", 2)
    net: Any = cv2.dnn_superres.DnnSuperResImpl_create()  # type: ignore[attr-defined]
    net.readModel(path)
    net.setModel(name, int(scale))
    upsample: Callable[[Any], Any] = net.upsample
    return upsample


def measure_one(network: str, engine: str, size: str) -> dict[str, float]:
    """In a separate process: start-up, median time per frame, peak memory."""
    from sharpreel.system.resources import peak_memory_mb

    began = time.perf_counter()
    run = runner(network, engine)
    clip = frames(size)
    run(clip[0])
    startup = time.perf_counter() - began
    timed = _on_gpu if engine == "torch-cuda" else _on_cpu
    times = [timed(run, clip[1])]
    deadline = time.perf_counter() + SECONDS
    while time.perf_counter() < deadline and len(times) < MOST:
        times.append(timed(run, clip[len(times) % len(clip)]))
    rss = peak_memory_mb() or 0
    return {"ms": statistics.median(times), "startup_seconds": startup, "rss_mb": rss}


def _on_cpu(run: Callable[[Any], Any], frame: Any) -> float:
    began = time.perf_counter()
    run(frame)
    return (time.perf_counter() - began) * 1e3


def _on_gpu(run: Callable[[Any], Any], frame: Any) -> float:
    import torch

    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    run(frame)
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end))


def gflop_of(network: str, size: str) -> float | None:
    """Arithmetic of one frame in units of 1e9, counted on tensors without contents."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from sharpreel.models.weights import load_model

    if ":" in network:
        return None
    name, _, scale = network.rpartition(" x")
    in_peers = network in PEERS
    module: Any = _peer(network)[1] if in_peers else load_model(name, int(scale)).module()
    width, height = map(int, size.split("x"))
    past, future = getattr(module, "past", 0), getattr(module, "future", 0)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        module = module.to("meta")
        lr = torch.zeros(1, 1 + past + future, 3, height, width)
        if not past + future:
            module(lr)
        elif hasattr(module, "flows"):
            module.centre(lr, torch.zeros(1, past + future, 2, height, width))
        else:
            module.centre(lr)
    return float(counter.get_total_flops()) / 1e9


def peaks() -> dict[str, float]:
    """GFLOP/s of products of 2048 x 2048 matrices, by the library that is fastest here.

    The best of ten, for this is what the machine can do: libraries differ by a factor of two on
    processors that are not their maker's.
    """
    import numpy as np
    import torch

    side = 2048
    a, b = torch.rand(side, side), torch.rand(side, side)
    ints = torch.randint(-100, 100, (side, side), dtype=torch.int8)
    x, y = a.numpy(), b.numpy()
    products: dict[str, list[Callable[[], Any]]] = {
        "float32": [lambda: a @ b, lambda: x @ y, _openvino_product(x, y)],
        "int8": [lambda: torch._int_mm(ints, ints)],
    }
    assert np.allclose(x @ y, products["float32"][2](), rtol=1e-3)
    return {
        name: 2 * side**3 / min(map(_best_seconds, calls)) / 1e9 for name, calls in products.items()
    }


def _openvino_product(x: Any, y: Any) -> Callable[[], Any]:
    import openvino as ov
    from openvino import opset13 as op

    left = op.parameter(x.shape, ov.Type.f32)
    graph = ov.Model([op.matmul(left, op.constant(y), False, False)], [left])
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def product() -> Any:
        request.infer()
        return request.get_output_tensor().data

    return product


def _best_seconds(call: Callable[[], Any]) -> float:
    call()
    times = []
    for _ in range(10):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def combinations(superres: list[str], cuda: bool) -> list[tuple[str, str]]:
    """Every network with every engine that is available here."""
    from sharpreel.models import MODELS
    from sharpreel.models.weights import available_scales, load_model

    found = []
    ours = [(name, scale) for name in MODELS for scale in available_scales(name)]
    for name, scale in ours:
        without = set() if load_model(name, scale).int8 else {"openvino-int8"}
        found += [(f"{name} x{scale}", engine) for engine in ENGINES if engine not in without]
    found += [(peer, engine) for peer in PEERS for engine in ENGINES[2:]]
    found = [pair for pair in found if cuda or pair[1] != "torch-cuda"]
    return found + [(word, "dnn_superres") for word in superres]


def measure(
    pairs: list[tuple[str, str]], sizes: list[str], runs: int
) -> tuple[list[Row], dict[str, float]]:
    """All measurements, in turn, and `peaks`, the best of one before each size.

    What does not end in LIMIT is said and left out from there.
    """
    top: dict[str, float] = {}
    rows: list[Row] = []
    failed = set()
    for size in sizes:
        top = {name: max(rate, top.get(name, 0.0)) for name, rate in peaks().items()}
        found: dict[tuple[str, str], list[dict[str, float]]] = {pair: [] for pair in pairs}
        for pair in pairs * runs:
            if pair in failed:
                continue
            command = [sys.executable, __file__, "--one", *pair, size]
            # Peers run as their own scripts would; ours ask torch for large pages.
            env = {**os.environ, "THP_MEM_ALLOC_ENABLE": "0"} if pair[0] in PEERS else None
            try:
                done = subprocess.run(
                    command, check=True, capture_output=True, text=True, timeout=LIMIT, env=env
                )
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as e:
                print(f"{pair} at {size}: left out, {type(e).__name__}", file=sys.stderr)
                failed.add(pair)
                continue
            found[pair].append(json.loads(done.stdout))
        for (network, engine), values in found.items():
            if not values:
                continue
            middle = {key: statistics.median(v[key] for v in values) for key in values[0]}
            gflop = gflop_of(network, size)
            rate = None if gflop is None else gflop / middle["ms"] * 1e3
            fps = 1e3 / middle["ms"]
            rows.append(Row(network, engine, size, fps=fps, gflops=rate, share=None, **middle))
            print(f"{size} {network} {engine}: {fps:.1f} fps", file=sys.stderr, flush=True)
    return [_with_share(row, top) for row in rows], top


def _with_share(row: Row, top: dict[str, float]) -> Row:
    if row.gflops is None or row.engine == "torch-cuda":
        return row
    return replace(row, share=row.gflops / top["int8" if "int8" in row.engine else "float32"])


def plot(rows: list[Row], path: Path) -> None:
    """Frames per second of every row, one panel per input size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    sizes = list(dict.fromkeys(row.size for row in rows))
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(5 * len(sizes), 7), squeeze=False)
    for axis, size in zip(axes[0], sizes, strict=True):
        shown = sorted((row for row in rows if row.size == size), key=lambda row: row.fps)
        names = [f"{row.network}, {row.engine}" for row in shown]
        colours = ["tab:grey" if row.network in PEERS else "tab:blue" for row in shown]
        axis.barh(names, [row.fps for row in shown], color=colours)
        axis.set(xscale="log", title=size, xlabel="frames a second")
        axis.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "speed.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "benchmarks" / "speed.png")
    parser.add_argument("--superres", action="append", default=[], metavar="NAME:SCALE:FILE")
    parser.add_argument("--quick", action="store_true", help="one size, once, no RBPN")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure_one(*a.one)))
        return
    from sharpreel.system.resources import cuda_available, usable_cpus

    pairs = combinations(a.superres, cuda_available())
    if a.quick:
        a.sizes, a.runs, pairs = ["160x90"], 1, [p for p in pairs if p[0] != "RBPN x4"]
    load = os.getloadavg()[0]
    rows, top = measure(pairs, a.sizes, a.runs)
    facts = {"processor": platform.processor() or platform.machine(), "threads": usable_cpus()}
    found = {"machine": {**facts, "load_before": load, "matrix_gflops": top}, "runs": a.runs}
    a.json.write_text(json.dumps({**found, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")
    plot(rows, a.plot)


if __name__ == "__main__":
    main()
