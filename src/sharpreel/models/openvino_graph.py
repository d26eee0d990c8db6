"""Reel and bicubic as OpenVINO graphs, built from their weights without PyTorch.

The same computation as `reel.py`, arranged for a CPU: frames enter and leave as (1, H, W, 3), so
nothing is transposed; everything between works on blocks of unshuffle x unshuffle lr pixels, folded
into channels (row, column, colour), and the output is unfolded after rounding to bytes, by one move
instead of two on floats; the previous frame is an input of its own, so that the state is only the
network's own output.

    frame ─┬─ mirror edges, fold ── 12 to 48, bicubic ─────────────── + ── sr (folded)
           └─ fold ─┐                                        ┌─ tail ─┘
    before ── fold ─┼─ head ── body ... body ────────────────┤
    state ──────────┘                                        └─ tail ──── state_out
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sharpreel import ops

if TYPE_CHECKING:
    import openvino as ov

Array = npt.NDArray[np.float32]
# Names of the operations that stay in float in an int8 graph.
BASE, SUM = "bicubic", "picture"  # names in saved graphs


def bicubic_graph(scale: int) -> ov.Model:
    """`Bicubic` of one frame: `frame` (1, H, W, 3) in [0, 1] -> `sr`, folded (see `reel_graph`)."""
    import openvino as ov

    frame = _input("frame", 3)
    return ov.Model([_output("sr", _bicubic(frame, scale, 1))], [frame])


def bicubic_graph_of(
    tensors: Mapping[str, Array], scale: int, arguments: Mapping[str, Any]
) -> ov.Model:
    """`bicubic_graph` with the signature of `ModelSpec.graph`."""
    return bicubic_graph(scale)


def reel_graph_of(
    tensors: Mapping[str, Array], scale: int, arguments: Mapping[str, Any]
) -> ov.Model:
    """`reel_graph` with the signature of `ModelSpec.graph`."""
    return reel_graph(tensors, scale, int(arguments.get("unshuffle", 2)))


def reel_graph(tensors: Mapping[str, Array], scale: int, unshuffle: int) -> ov.Model:
    """One step of a `Reel`; H and W are any multiples of `unshuffle`.

    Inputs: `frame` and `before`, this frame and the last, (1, H, W, 3) in [0, 1]; `state`
    (1, H / unshuffle, W / unshuffle, C). At a first frame `before` is the frame and `state` zeros.
    Outputs: `sr` (1, 3 * k * k, H / unshuffle, W / unshuffle) with k = scale * unshuffle, channels
    in the order (row, column, colour) of a block of the output, not clamped; the next `state_out`.

    Args:
        tensors: The weights, under the names of `Reel`.
    """
    import openvino as ov
    from openvino import opset13 as op

    folded, residuals = 3 * unshuffle**2, 3 * (scale * unshuffle) ** 2
    seen, shown = _seen_order(unshuffle), _shown_order(scale, unshuffle)
    head, bias = tensors["head.weight"], tensors["head.bias"]
    channels = head.shape[0]
    hidden = residuals + np.arange(channels)
    head = head[:, [*seen, *(folded + seen), *(2 * folded + shown), *(2 * folded + hidden)]]
    # Bytes b enter as (b - 128) / 127, which eight bits hold exactly.
    head[:, : 2 * folded] *= 127 / 255

    frame, before = _input("frame", 3), _input("before", 3)
    state = _input("state", residuals + channels)
    views = [
        _fold(op.multiply(op.subtract(f, np.float32(128 / 255)), np.float32(255 / 127)), unshuffle)
        for f in (frame, before)
    ]
    # Separate, so that in eight bits frames and state have quantization steps of their own.
    pixels, memory = (op.transpose(x, [0, 3, 1, 2]) for x in (op.concat(views, 3), state))
    x = _convolution(pixels, head[:, : 2 * folded], bias)
    no_bias = np.zeros(channels, np.float32)
    x = op.relu(op.add(x, _convolution(memory, head[:, 2 * folded :], no_bias)))
    identity = np.zeros((channels, channels, 3, 3), np.float32)
    identity[range(channels), range(channels), 1, 1] = 1
    for n in range(sum(name.startswith("body.") for name in tensors) // 2):
        weight = tensors[f"body.{n}.weight"] + identity
        x = op.relu(_convolution(x, weight, tensors[f"body.{n}.bias"]))
    # The residual twice: for the output, and with the hidden state for the next frame.
    tail, bias = tensors["tail.weight"], tensors["tail.bias"]
    residual = op.clamp(_convolution(x, tail[shown], bias[shown]), -1, 1)
    both = [*shown, *hidden]
    after = op.clamp(_convolution(x, tail[both], bias[both]), -1, 1)
    sr = op.add(_bicubic(frame, scale, unshuffle), residual, name=SUM)
    outputs = [_output("sr", sr), _output("state_out", op.transpose(after, [0, 2, 3, 1]))]
    return ov.Model(outputs, [frame, before, state])


def with_integers(
    graph: ov.Model, scale: float, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> ov.Model:
    """The graph for frames (H, W, 3) of an integer type; its `sr` is (1, sH, sW, 3) of that type.

    Args:
        graph: As `reel_graph` makes it, or of an image network with `sr` (1, 3, sH, sW).
    """
    import openvino as ov
    from openvino import opset13 as op
    from openvino.preprocess import PrePostProcessor

    side = reshape(graph, scale, shape)
    top = float(np.iinfo(dtype).max)
    kind = ov.Type.u8 if dtype == np.uint8 else ov.Type.u16
    results = []
    for port in graph.outputs:
        node = port.get_node().input_value(0)
        if "sr" in port.names:
            scaled = op.clamp(op.multiply(node, np.float32(top)), 0.0, top)
            rounded = op.convert(op.round(scaled, "half_to_even"), kind.to_string())
            blocks = rounded if side == 1 else op.depth_to_space(rounded, "blocks_first", side)
            node = op.transpose(blocks, [0, 2, 3, 1]).output(0)
        result = op.result(node)
        result.output(0).set_names(port.names)
        results.append(result)
    steps = PrePostProcessor(ov.Model(results, graph.get_parameters()))
    for name in {name for port in graph.inputs for name in port.names} - {"state"}:
        steps.input(name).tensor().set_element_type(kind)
        steps.input(name).preprocess().convert_element_type(ov.Type.f32).scale(top)
    return steps.build()


def reshape(graph: ov.Model, scale: float, shape: tuple[int, ...]) -> int:
    """Fix the shapes of a graph to frames (H, W, 3).

    Returns:
        The side of the blocks that are folded in its `sr`.
    """
    side = math.isqrt(graph.output("sr").partial_shape[1].get_length() // 3)
    names = {name for port in graph.inputs for name in port.names}
    sizes: dict[str, Any] = {name: [1, *shape] for name in names - {"state"}}
    if "state" in names:
        fold = side // int(scale)
        channels = graph.input("state").partial_shape[3].get_length()
        sizes["state"] = [1, shape[0] // fold, shape[1] // fold, channels]
    graph.reshape(sizes)
    return side


def _input(name: str, channels: int) -> Any:
    from openvino import opset13 as op

    port = op.parameter([1, -1, -1, channels], np.float32, name)
    port.output(0).set_names({name})
    return port


def _output(name: str, node: Any) -> Any:
    from openvino import opset13 as op

    result = op.result(node)
    result.output(0).set_names({name})
    return result


def _convolution(x: Any, weight: Array, bias: Array) -> Any:
    from openvino import opset13 as op

    x = op.convolution(x, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    return op.add(x, bias.astype(np.float32).reshape(1, -1, 1, 1))


def _fold(x: Any, side: int) -> Any:
    """(1, H, W, 3) -> (1, H / side, W / side, side * side * 3)."""
    from openvino import opset13 as op

    if side == 1:
        return x
    x = op.space_to_depth(op.transpose(x, [0, 3, 1, 2]), "blocks_first", side)
    return op.transpose(x, [0, 2, 3, 1])


def _bicubic(frame: Any, scale: int, unshuffle: int) -> Any:
    """`BicubicBase` on folded pixels."""
    from openvino import opset13 as op

    kernel = _bicubic_kernel(scale, unshuffle)
    margin = kernel.shape[-1] // 2 * unshuffle
    edges = np.array([0, margin, margin, 0])
    folded = _fold(op.pad(frame, edges, edges, "symmetric"), unshuffle)
    x = op.transpose(folded, [0, 3, 1, 2])
    return op.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1], name=BASE)


def _bicubic_kernel(scale: int, unshuffle: int) -> Array:
    """Bicubic from folded frame to folded output, for a frame with mirrored edges."""
    u, k = unshuffle, scale * unshuffle
    reach = -(-2 // u)  # folded pixels that hold two
    phases = ops.bicubic_phases(scale).reshape(scale, scale, 5, 5)
    blocks = 2 * reach + 1
    kernel = np.zeros((k, k, 3, u, u, 3, blocks, blocks), np.float32)
    for y, x, i, j in np.ndindex(k, k, 5, 5):
        row, column = y // scale + i - 2 + reach * u, x // scale + j - 2 + reach * u
        for colour in range(3):
            at = (y, x, colour, row % u, column % u, colour, row // u, column // u)
            kernel[at] = phases[y % scale, x % scale, i, j]
    return kernel.reshape(3 * k * k, 3 * u * u, blocks, blocks)


def _seen_order(u: int) -> npt.NDArray[np.intp]:
    """Where `pixel_unshuffle` puts each channel of a folded frame."""
    return np.arange(3 * u * u).reshape(3, u, u).transpose(1, 2, 0).ravel()


def _shown_order(scale: int, u: int) -> npt.NDArray[np.intp]:
    """Which channel of the residual each channel of a folded output is."""
    channels = np.arange(3 * (scale * u) ** 2).reshape(3, scale, scale, u, u)
    return channels.transpose(3, 1, 4, 2, 0).ravel()  # (row, row in it, column, ..., colour)
