"""A network's graph in eight-bit integers, by NNCF's post-training quantisation.

The graph that `weights.export_graph` makes is run over real clips for a hundred frames, in float,
because the state after many frames is not that after one; what passes through it gives the ranges.
The clips are degraded as those that the network learned from.
Bicubic and the sum with the residual stay in float, so that the picture is rounded once. The state
is kept as the bytes that the first convolution reads. The graph is then compared with the float one
on clips that it was not made from, and kept only where it is close enough at all of CHECKED.

Building needs nncf; running such a graph needs openvino alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sharpreel import degrade, metrics, video, weights
from sharpreel.data import Clip
from sharpreel.engine import OpenVinoEngine, openvino_core
from sharpreel.errors import MissingExtra, UsageError
from sharpreel.models.graph import BASE, SUM, reshape
from sharpreel.ops import Frame

if TYPE_CHECKING:
    import openvino as ov

FRAMES = 100  # of each roll-out
TAKEN = (0, 1, 9, 30, 99)  # frames of a roll-out that calibrate
CHECKED = (1, 10, 100)  # frames, counted from 1, at which the two graphs are compared
TOLERANCE_DB = 0.1
SIDE, WIDE = 80, 160  # lr pixels a side of the middle that calibrates, and that compares
CALIBRATING, COMPARING = 18, 6  # clips, at most


def quantize(
    model: weights.Model, source: Path, folder: Path, tell: Callable[[str], None] | None = None
) -> Path:
    """Build `<name>_int8.xml` and `.bin` in `folder` from the weights and a folder of videos.

    Args:
        source: Folder of high-resolution videos; a quarter of those used only compares.
        tell: Called with a line for each step.

    Returns:
        The graph; its `rt_info` has the mean loss in dB at each frame of CHECKED.

    Raises:
        UsageError: The network has no state, there are too few videos, or the loss is above
            TOLERANCE_DB: then nothing is written.
        MissingExtra: nncf is not installed.
    """
    tell = tell or (lambda line: None)
    if model.spec.recurrent != "causal":
        raise UsageError(f"{model.name}: only reel and reel-fast can be made int8.")
    least, scale = round(SIDE * model.scale), int(model.scale)
    learned = model.card.get("recipe", {}).get("degradation", "bi")
    degradation = learned if learned in degrade.DEGRADATIONS else "bi"
    there = sorted(p for p in source.iterdir() if p.suffix.lower() in video.VIDEO_SUFFIXES)
    paths = [p for p in there if min(video.probe(p).shown_size) >= least]
    if len(paths) < 4:
        raise UsageError(
            f"{source}: {len(paths)} videos of {least} pixels a side or more; 4 are needed, 32 are "
            "better."
        )
    step = max(len(paths) // (CALIBRATING + COMPARING), 1)
    paths = paths[::step][: CALIBRATING + COMPARING]
    compared, calibrating = paths[::4], [p for i, p in enumerate(paths) if i % 4]
    tell(f"calibrating on {len(calibrating)} clips, {FRAMES} frames each")
    graph = weights.build_graph(model)
    seen = [
        sample
        for clip in _clips(calibrating, scale, SIDE, degradation)
        for sample in samples(graph, scale, clip.lr)
    ]
    free = {port.get_any_name(): port.partial_shape for port in graph.inputs}
    reshape(graph, scale, (SIDE, SIDE, 3))
    made = _with_bytes(_quantized(graph, seen))
    made.reshape(free)
    target = weights.graph_path(model, folder)
    target = target.with_name(f"{target.stem}_int8.xml")
    with TemporaryDirectory() as scratch:
        trial = replace(
            model,
            graph=weights.export_graph(model, Path(scratch)),
            int8=weights.save_graph(made, Path(scratch) / target.name),
        )
        tell(f"comparing with float32 on {len(compared)} other clips")
        others = _clips(compared, scale, WIDE, degradation)
        lost = np.array([losses(trial, clip) for clip in others]).mean(axis=0)
    words = ", ".join(f"{db:+.3f} at frame {n}" for n, db in zip(CHECKED, lost, strict=True))
    tell(f"dB lost: {words}")
    if lost.max() > TOLERANCE_DB:
        raise UsageError(
            f"{model.name} x{scale} in int8 loses more than {TOLERANCE_DB} dB ({words}); nothing "
            "was written. Use it in float32."
        )
    made.set_rt_info(" ".join(f"{db:.4f}" for db in lost), ["sharpreel", "loss_db"])
    return weights.save_graph(made, target)


def there_and_back(frames: Sequence[Frame] | npt.NDArray[Any], count: int) -> Iterator[Frame]:
    """`count` frames of a shorter clip, run forward and backward in turn, as time can."""
    last = len(frames) - 1
    for k in range(count):
        at = k % (2 * last) if last else 0
        yield frames[min(at, 2 * last - at)]


def samples(
    graph: ov.Model, scale: int, lr: npt.NDArray[np.uint8]
) -> list[dict[str, npt.NDArray[np.float32]]]:
    """What the float graph is given at the frames TAKEN of a roll-out over a clip (T, H, W, 3)."""
    fixed = graph.clone()
    reshape(fixed, scale, lr.shape[1:])
    run = openvino_core().compile_model(fixed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    state = np.zeros(run.input("state").shape, np.float32)
    before = None
    taken = []
    for k, pixels in enumerate(there_and_back(lr, FRAMES)):
        frame = pixels[None].astype(np.float32) / 255
        given = {"frame": frame, "before": frame if before is None else before, "state": state}
        if k in TAKEN:
            taken.append(given)
        state, before = run(given)["state_out"].copy(), frame
    return taken


def losses(model: weights.Model, clip: Clip, frames: Sequence[int] = CHECKED) -> list[float]:
    """PSNR on Y of the float graph less that of the int8 graph, dB, at frames counted from 1."""
    engines = [OpenVinoEngine(model, precision=p) for p in ("float32", "int8")]
    lost = []
    pairs = zip(*(there_and_back(f, max(frames)) for f in (clip.lr, clip.hr)), strict=True)
    for number, (lr, hr) in enumerate(pairs, 1):
        pictures = [engine.run(lr) for engine in engines]
        if number in frames:
            exact, rounded = (metrics.psnr_y(picture, hr) for picture in pictures)
            lost.append(exact - rounded)
    return lost


def _clips(paths: list[Path], scale: int, side: int, degradation: str) -> Iterator[Clip]:
    """One clip in memory at a time, cut to the middle `side` lr pixels and degraded.

    Args:
        degradation: Of `degrade.DEGRADATIONS`; what it draws is another thing for each clip.
    """
    for number, path in enumerate(paths):
        hr = video.read_frames(path, FRAMES)
        high, wide = (min(side, n // scale // 2 * 2) * scale for n in hr.shape[1:3])
        top, left = (hr.shape[1] - high) // 2, (hr.shape[2] - wide) // 2
        hr = hr[:, top : top + high, left : left + wide]
        yield Clip(path.stem, *degrade.degrade(hr, scale, degradation, number))


def _quantized(graph: ov.Model, seen: list[dict[str, npt.NDArray[np.float32]]]) -> ov.Model:
    try:
        import nncf
        import nncf.quantization.range_estimator as ranges
    except ImportError as e:
        raise MissingExtra("Building an int8 graph", "int8") from e
    nncf.set_log_level(30)  # warnings and worse
    return nncf.quantize(
        graph,
        nncf.Dataset(seen),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(seen),
        ignored_scope=nncf.IgnoredScope(names=[BASE, SUM]),
        # The largest that was seen, not the mean of each frame's largest: what is cut off once is
        # wrong in every frame after it.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
        ),
    )


def _with_bytes(graph: ov.Model) -> ov.Model:
    """The graph with its state as int8: what the first convolution makes of it, kept as such."""
    import openvino as ov
    from openvino import opset13 as op

    old = next(p for p in graph.get_parameters() if "state" in p.output(0).names)
    (entry,) = old.output(0).get_target_inputs()
    rounding = entry.get_node()
    assert rounding.get_type_name() == "FakeQuantize"
    low, high = (rounding.input_value(i).get_node().get_data().item() for i in (3, 4))
    unit = np.float32((high - low) / 255)

    new = op.parameter(old.get_partial_shape(), np.int8, "state")
    new.output(0).set_names({"state"})
    told = op.multiply(op.convert(new, np.float32), unit)
    for user in rounding.output(0).get_target_inputs():
        user.replace_source_output(told.output(0))
    outputs = []
    for port in graph.outputs:
        node = port.get_node().input_value(0)
        if "state_out" in port.names:
            levels = [np.float32(value) for value in (low, high, -128, 127)]
            node = op.convert(op.fake_quantize(node, *levels, 256), np.int8).output(0)
        result = op.result(node)
        result.output(0).set_names(port.names)
        outputs.append(result)
    frames = [
        p for p in graph.get_parameters() if p is not old and p.friendly_name != old.friendly_name
    ]
    return ov.Model(outputs, [*frames, new])
