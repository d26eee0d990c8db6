"""Runs a network on the CPU with OpenVINO: `OpenVinoEngine`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.engines.base import EngineKind
from sharpreel.engines.memory import graph_bytes
from sharpreel.engines.tiles import Tile, state_indices
from sharpreel.engines.tiling import TiledEngine
from sharpreel.errors import UsageError, WeightsError
from sharpreel.models.export import build_graph
from sharpreel.models.openvino_graph import with_integers
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.system.resources import free_bytes, usable_cpus

if TYPE_CHECKING:
    import openvino as ov

State = npt.NDArray[Any]


def validate_graph(model: Model, precision: str) -> None:
    """Raise UsageError unless OpenVINO can run a network in this precision."""
    if precision == "int8" and model.int8 is None:
        build = ", or build one with `sharpreel export --precision int8`" if model.spec.int8 else ""
        raise UsageError(f"{model.name} has no int8 graph; use precision='float32'{build}.")
    if precision != "int8" and not model.has_graph:
        build = "" if model.spec.recurrent else "build one with `sharpreel export`, or "
        raise UsageError(f"{model.name} has no saved graph; {build}use engine='torch'.")


class OpenVinoEngine(TiledEngine):
    """Runs an OpenVINO graph on the CPU; integers in, integers out, converted inside the graph.

    A bundled network without a saved graph is built from its weights. A graph is compiled once for
    each frame or tile size and type, in about a tenth of a second.

    Args:
        precision: "float32", or "int8" where the network has such a graph; frames of sixteen bits
            are run in float32 all the same.
        threads: CPU threads, by default all this process may use.
        tile, max_memory: See `TiledEngine`.

    Raises:
        UsageError: The network has no graph in this precision, or the tile is too small.
    """

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        tile: int | None = None,
        max_memory: int | None = None,
        precision: str = "float32",
    ) -> None:
        validate_graph(model, precision)
        super().__init__(model, tile, max_memory)
        int8 = precision == "int8"
        self.kind = EngineKind("openvino", precision="int8" if int8 else "float32")
        self.warm_up = model.spec.warm_up
        self.clip_len = self.past = self.future = 0
        self._model, self._int8 = model, model.int8 if int8 else None
        self._recurrent = model.spec.recurrent is not None
        self._threads = threads or usable_cpus()
        self._shape: tuple[tuple[int, ...], Any] | None = None
        self._request: ov.InferRequest | None = None
        self._ports: list[Any] = []  # buffers of a state in and a state out; they swap roles
        self._previous: Pixels | None = None  # the last frame, padded
        self._state: State | None = None  # of the whole frame, (1, H / fold, W / fold, C)
        self._fold = 1  # lr pixels per pixel of the state, along each axis

    def reset(self) -> None:
        """Clear the state: the next frame begins a scene."""
        self._state = self._previous = None

    def run(self, frame: Pixels) -> Pixels:
        """(H, W, 3) -> (scale * H, scale * W, 3), same integer type."""
        padded = ops.pad_to_multiple(frame, self._multiple)
        if self._previous is not None and padded.shape != self._previous.shape:
            self.reset()
        previous = padded if self._previous is None else self._previous
        (sr,), finished = self._run_tiles(frame, lambda: _GraphPass(self, padded, previous))
        self._state = finished.state
        if self._recurrent:
            self._previous = padded.copy() if padded is frame else padded
        return sr

    def run_clip(self, frames: list[Pixels], first: int, count: int) -> list[Pixels]:
        """Not available: saved graphs take one frame at a time."""
        raise NotImplementedError

    def _infer(self, frame: Pixels, previous: Pixels, tile: Tile) -> tuple[Pixels, State | None]:
        """The upscaled frame of one tile, and the next state of the tile."""
        import openvino as ov

        # OpenVINO takes no read-only array, and does not keep what it takes.
        frame, previous = (np.require(f, requirements=["C", "W"])[None] for f in (frame, previous))
        if (frame.shape, frame.dtype) != self._shape:
            self._compile(frame[0])
        request = self._request
        assert request is not None
        request.set_tensor("frame", ov.Tensor(frame, shared_memory=True))
        if self._recurrent:
            request.set_tensor("before", ov.Tensor(previous, shared_memory=True))
            state_in, state_out = self._ports
            if self._state is None:
                state_in.data[:] = 0
            elif not np.may_share_memory(self._state, state_in.data):
                seen, _, _ = state_indices(tile, self._fold)
                state_in.data[:] = self._state[*seen, :]
            request.set_tensor("state", state_in)
            request.set_tensor("state_out", state_out)
        request.infer()
        state = self._ports[1].data if self._recurrent else None
        return request.get_tensor("sr").data[0].copy(), state

    def _compile(self, frame: Pixels) -> None:
        import openvino as ov

        compiled = openvino_core().compile_model(
            self._graph_for(frame),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": self._threads,
                # Half precision is slower on most CPUs and would change the output.
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        self._request = compiled.create_infer_request()
        self._shape = ((1, *frame.shape), frame.dtype)
        if self._recurrent:
            port = compiled.input("state")
            dtype = port.get_element_type().to_dtype()
            self._ports = [ov.Tensor(np.zeros(port.shape, dtype)) for _ in range(2)]
            self._fold = frame.shape[0] // port.shape[1]

    def _graph_for(self, frame: Pixels) -> ov.Model:
        """The graph for frames of this size and type.

        Raises:
            WeightsError: The saved graph has an earlier format.
        """
        # An int8 graph would round sixteen bits to eight: they take the float graph.
        saved = self._int8 if self._int8 and frame.dtype == np.uint8 else self._model.graph
        graph = build_graph(self._model) if saved is None else openvino_core().read_model(saved)
        if self._recurrent and "before" not in {name for i in graph.inputs for name in i.names}:
            raise WeightsError(
                f"{saved}: built by an earlier sharpreel. Build it again from its weights "
                "with `sharpreel export`."
            )
        return with_integers(graph, self.scale, frame.shape, frame.dtype)

    def _ample_bytes(self, pixels: int) -> int:
        return pixels << 14

    def _required_bytes(self, height: int, width: int) -> int:
        blank = np.broadcast_to(np.uint8(0), (height, width, 3))
        return graph_bytes(self._graph_for(blank))

    def _free_bytes(self) -> int | None:
        return free_bytes()


class _GraphPass:
    """One frame's pass through an engine's graph; `state` becomes the engine's next state.

    Args:
        frame, previous: This frame and the last one, padded.
    """

    def __init__(self, engine: OpenVinoEngine, frame: Pixels, previous: Pixels) -> None:
        self.state: State | None = None
        self._engine, self._frame, self._previous = engine, frame, previous

    def run(self, tile: Tile) -> list[Pixels]:
        engine = self._engine
        sr, state = engine._infer(self._frame[tile.seen], self._previous[tile.seen], tile)
        if state is None:
            return [sr]
        rows, columns = (side // engine._fold for side in self._frame.shape[:2])
        if state.shape[1:3] == (rows, columns):
            # The whole frame: what went out goes in next, and nothing is copied.
            engine._ports.reverse()
            self.state = state
            return [sr]
        if self.state is None:
            self.state = np.empty((1, rows, columns, state.shape[3]), state.dtype)
        _, shown, inner = state_indices(tile, engine._fold)
        self.state[*shown, :] = state[*inner, :]
        return [sr]


@functools.cache
def openvino_core() -> ov.Core:
    """The one OpenVINO runtime of this process; it is never released.

    Each runtime gives its thread a stack for signal handlers. When the first of two is released
    before the second, the second restores the freed stack, and the next signal (Ctrl-C) is a
    crash.
    """
    import openvino as ov

    return ov.Core()
