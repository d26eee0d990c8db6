"""Int8 graphs by NNCF's post-training quantisation, for recurrent networks.

The graph of `export_graph` runs over real clips for a hundred frames in float32, because
the state after many frames differs from that after one; the observed values set the ranges. Bicubic
and the sum with the residual stay in float, so that a frame is rounded once. The state is stored as
the bytes that the first convolution reads. The int8 graph is then compared with the float graph on
clips that did not calibrate it, and kept only when it is close enough at all of CHECKED_FRAMES.

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

from sharpreel.data import degrade
from sharpreel.data.store import Clip
from sharpreel.engines.openvino import OpenVinoEngine, openvino_core
from sharpreel.errors import MissingExtra, UsageError
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.media.probe import VIDEO_SUFFIXES, probe
from sharpreel.media.reader import read_frames
from sharpreel.models.export import build_graph, export_graph, graph_path, save_graph
from sharpreel.models.openvino_graph import BASE, SUM, reshape
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels

if TYPE_CHECKING:
    import openvino as ov

ROLL_OUT = 100  # frames
CALIBRATION_FRAMES = (0, 1, 9, 30, 99)  # of a roll-out
CHECKED_FRAMES = (1, 10, 100)  # counted from 1, at which the two graphs are compared
TOLERANCE_DB = 0.1
CALIBRATION_SIZE, COMPARISON_SIZE = 80, 160  # lr pixels a side of the central crop
CALIBRATION_CLIPS, COMPARISON_CLIPS = 18, 6  # at most

MessageCallback = Callable[[str], None]


def quantize(
    model: Model, source: Path, folder: Path, on_message: MessageCallback | None = None
) -> Path:
    """Build `<name>_int8.xml` and `.bin` in `folder` from the weights and a folder of videos.

    Args:
        source: Folder of high-resolution videos; a quarter of the used ones only compares.
        on_message: Called with a line of text for each step.

    Returns:
        The graph; its `rt_info` has the mean loss in dB at each of CHECKED_FRAMES.

    Raises:
        UsageError: The network has no state, there are too few videos, or the loss is above
            TOLERANCE_DB; then nothing is written.
        MissingExtra: nncf is not installed.
    """
    message = on_message or (lambda text: None)
    if model.spec.recurrent != "causal":
        raise UsageError(f"model={model.name}: only reel and reel-fast can be made int8.")
    scale, degradation = int(model.scale), _degradation_of(model)
    calibration, comparison = _choose_videos(source, round(CALIBRATION_SIZE * model.scale))
    message(f"calibrating on {len(calibration)} clips, {ROLL_OUT} frames each")
    int8 = _calibrated(build_graph(model), calibration, scale, degradation)
    target = graph_path(model, folder)
    target = target.with_name(f"{target.stem}_int8.xml")
    message(f"comparing with float32 on {len(comparison)} other clips")
    loss = _mean_loss(model, int8, comparison, target.name)
    text = ", ".join(f"{db:+.3f} at frame {n}" for n, db in zip(CHECKED_FRAMES, loss, strict=True))
    message(f"dB lost: {text}")
    if max(loss) > TOLERANCE_DB:
        raise UsageError(
            f"{model.name} x{scale} in int8 loses more than {TOLERANCE_DB} dB ({text}); nothing "
            "was written. Use it in float32."
        )
    int8.set_rt_info(" ".join(f"{db:.4f}" for db in loss), ["sharpreel", "loss_db"])
    return save_graph(int8, target)


def _choose_videos(source: Path, min_size: int) -> tuple[list[Path], list[Path]]:
    """Return the videos that calibrate, and a third as many others that compare."""
    videos = sorted(p for p in source.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    large = [p for p in videos if min(probe(p).shown_size) >= min_size]
    if len(large) < 4:
        raise UsageError(
            f"{source}: {len(large)} videos of {min_size} pixels a side or more; at least 4 are "
            "needed, 32 are better."
        )
    most = CALIBRATION_CLIPS + COMPARISON_CLIPS
    chosen = large[:: max(len(large) // most, 1)][:most]
    return [p for i, p in enumerate(chosen) if i % 4], chosen[::4]


def _calibrated(graph: ov.Model, videos: list[Path], scale: int, degradation: str) -> ov.Model:
    """Return the int8 form of a float graph, with inputs of any size."""
    inputs = [
        sample
        for clip in _clips(videos, scale, CALIBRATION_SIZE, degradation)
        for sample in samples(graph, scale, clip.lr)
    ]
    shapes = {port.get_any_name(): port.partial_shape for port in graph.inputs}
    reshape(graph, scale, (CALIBRATION_SIZE, CALIBRATION_SIZE, 3))
    int8 = _with_int8_state(_quantized(graph, inputs))
    int8.reshape(shapes)
    return int8


def _mean_loss(model: Model, int8: ov.Model, videos: list[Path], name: str) -> list[float]:
    """Return the mean over videos of the dB lost at each of CHECKED_FRAMES."""
    with TemporaryDirectory() as scratch:
        candidate = replace(
            model,
            graph=export_graph(model, Path(scratch)),
            int8=save_graph(int8, Path(scratch) / name),
        )
        clips = _clips(videos, int(model.scale), COMPARISON_SIZE, _degradation_of(model))
        return [float(db) for db in np.mean([losses(candidate, clip) for clip in clips], axis=0)]


def there_and_back(frames: Sequence[Pixels] | npt.NDArray[Any], count: int) -> Iterator[Pixels]:
    """Yield `count` frames of a shorter clip, played forward and backward in turn."""
    last = len(frames) - 1
    for k in range(count):
        at = k % (2 * last) if last else 0
        yield frames[min(at, 2 * last - at)]


def samples(
    graph: ov.Model, scale: int, lr: npt.NDArray[np.uint8]
) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Return the float graph's inputs at CALIBRATION_FRAMES of a roll-out over (T, H, W, 3)."""
    fixed = graph.clone()
    reshape(fixed, scale, lr.shape[1:])
    run = openvino_core().compile_model(fixed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    state = np.zeros(run.input("state").shape, np.float32)
    before = None
    inputs = []
    for k, pixels in enumerate(there_and_back(lr, ROLL_OUT)):
        frame = pixels[None].astype(np.float32) / 255
        ports = {"frame": frame, "before": frame if before is None else before, "state": state}
        if k in CALIBRATION_FRAMES:
            inputs.append(ports)
        state, before = run(ports)["state_out"].copy(), frame
    return inputs


def losses(model: Model, clip: Clip, frames: Sequence[int] = CHECKED_FRAMES) -> list[float]:
    """Return the dB (PSNR on Y) that int8 loses to the float graph, at frames counted from 1."""
    engines = [OpenVinoEngine(model, precision=p) for p in ("float32", "int8")]
    differences = []
    pairs = zip(*(there_and_back(f, max(frames)) for f in (clip.lr, clip.hr)), strict=True)
    for number, (lr, hr) in enumerate(pairs, 1):
        outputs = [engine.run(lr) for engine in engines]
        if number in frames:
            exact, rounded = (psnr_y(sr, hr) for sr in outputs)
            differences.append(exact - rounded)
    return differences


def _degradation_of(model: Model) -> str:
    """The degradation that a model was trained on; bicubic if its card names none that exists."""
    name = model.card.get("recipe", {}).get("degradation", "bi")
    return name if name in degrade.DEGRADATIONS else "bi"


def _clips(paths: list[Path], scale: int, side: int, degradation: str) -> Iterator[Clip]:
    """Yield one clip at a time, cropped to the central `side` lr pixels and degraded.

    What the degradation draws differs from clip to clip.
    """
    for number, path in enumerate(paths):
        hr = read_frames(path, ROLL_OUT)
        high, wide = (min(side, n // scale // 2 * 2) * scale for n in hr.shape[1:3])
        top, left = (hr.shape[1] - high) // 2, (hr.shape[2] - wide) // 2
        hr = hr[:, top : top + high, left : left + wide]
        yield Clip(path.stem, *degrade.degrade(hr, scale, degradation, number))


def _quantized(graph: ov.Model, inputs: list[dict[str, npt.NDArray[np.float32]]]) -> ov.Model:
    """Return NNCF's int8 graph, calibrated by these inputs."""
    try:
        import nncf
        import nncf.quantization.range_estimator as ranges
    except ImportError as e:
        raise MissingExtra("Building an int8 graph", "int8") from e
    nncf.set_log_level(30)  # warnings and worse
    return nncf.quantize(
        graph,
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=[BASE, SUM]),
        # The largest value of all frames, not the mean of each frame's largest: what is clipped
        # once is wrong in every later frame.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
        ),
    )


def _with_int8_state(graph: ov.Model) -> ov.Model:
    """Return the graph with an int8 state: the levels that the first convolution rounds to."""
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
    restored = op.multiply(op.convert(new, np.float32), unit)
    for user in rounding.output(0).get_target_inputs():
        user.replace_source_output(restored.output(0))
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
