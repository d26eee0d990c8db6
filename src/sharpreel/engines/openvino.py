"""Runs a graph on the CPU with OpenVINO."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.engines.memory import graph_bytes
from sharpreel.engines.tiling import Tile, TiledEngine, folded_size
from sharpreel.errors import UsageError, WeightsError
from sharpreel.models import MODELS
from sharpreel.models.openvino_graph import with_integers
from sharpreel.models.weights import Model, build_graph
from sharpreel.ops import Pixels
from sharpreel.system.resources import free_bytes, usable_cpus

if TYPE_CHECKING:
    import openvino as ov


def validate_graph(model: Model, precision: str) -> None:
    """Raise UsageError unless OpenVINO can run a network in this precision."""
    if precision == "int8" and model.int8 is None:
        of_ours = model.spec.build is MODELS["reel"].build
        build = ", or build one with `sharpreel export --precision int8`" if of_ours else ""
        raise UsageError(f"{model.name} has no int8 graph; use --precision float32{build}.")
    if precision != "int8" and not model.has_graph:
        build = "" if model.spec.recurrent else "build one with `sharpreel export`, or "
        raise UsageError(f"{model.name} has no saved graph; {build}use --engine torch.")


class OpenVinoEngine(TiledEngine):
    """A graph on the CPU; bytes in, bytes out, conversions inside the graph.

    A network of our own that has no saved graph is built anew from its weights. A graph is compiled
    once for each frame or tile size and type, in about a tenth of a second.

    Args:
        precision: "float32", or "int8" where the network has such a graph; frames of sixteen bits
            are run in float32 all the same.
        threads: Processor threads, by default all this process may use.
        tile, max_memory: See `TiledEngine`.
    """

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        tile: int | None = None,
        max_memory: int | None = None,
        precision: str = "float32",
    ) -> None:
        graph = model.int8 if precision == "int8" else model.graph
        validate_graph(model, precision)
        super().__init__(model, tile, max_memory)
        self.name = "openvino-int8" if precision == "int8" else "openvino"
        self.warm_up = model.spec.warm_up
        self.clip_len = self.past = self.future = 0
        self._model, self._int8 = model, graph if precision == "int8" else None
        self._recurrent = model.spec.recurrent is not None
        self._threads = threads or usable_cpus()
        self._shape: tuple[tuple[int, ...], Any] | None = None
        self._request: ov.InferRequest | None = None
        self._ports: list[Any] = []  # a state on its way in, and one on its way out
        self._before: Pixels | None = None  # the last frame, padded
        self._state: npt.NDArray[Any] | None = None  # of the whole frame, (1, H / fold, ...)
        self._fold = 1  # lr pixels that one pixel of the state stands for

    def reset(self) -> None:
        self._state = self._before = None

    def run(self, frame: Pixels) -> Pixels:
        padded = ops.pad_to_multiple(frame, self._multiple)
        if self._before is not None and padded.shape != self._before.shape:
            self.reset()
        before = padded if self._before is None else self._before
        after = self._state

        def begin() -> Callable[[Tile], list[Pixels]]:
            nonlocal after
            after = None

            def make(tile: Tile) -> list[Pixels]:
                nonlocal after
                sr, state = self._infer(padded[tile.seen], before[tile.seen], tile)
                if state is None:
                    return [sr]
                if state.shape[1:3] == self._sides(padded):
                    # The whole frame: what went out goes in next, and nothing is copied.
                    self._ports.reverse()
                    after = state
                    return [sr]
                if after is None:
                    after = np.empty((1, *self._sides(padded), state.shape[3]), state.dtype)
                _, shown, inner = folded_size(tile, self._fold)
                after[*shown, :] = state[*inner, :]
                return [sr]

            return make

        picture = self._pictures(frame, begin)[0]
        self._state = after
        if self._recurrent:
            self._before = padded.copy() if padded is frame else padded
        return picture

    def run_clip(self, frames: list[Pixels], first: int, count: int) -> list[Pixels]:
        """Saved graphs take one frame at a time."""
        raise NotImplementedError

    def _sides(self, padded: Pixels) -> tuple[int, int]:
        return padded.shape[0] // self._fold, padded.shape[1] // self._fold

    def _infer(
        self, pixels: Pixels, before: Pixels, tile: Tile
    ) -> tuple[Pixels, npt.NDArray[Any] | None]:
        """The picture of one tile, and its part of the state."""
        import openvino as ov

        # OpenVINO takes no array that must not be written to, and does not keep what it takes.
        pixels, before = (np.require(f, requirements=["C", "W"])[None] for f in (pixels, before))
        if (pixels.shape, pixels.dtype) != self._shape:
            self._compile(pixels[0])
        request = self._request
        assert request is not None
        request.set_tensor("frame", ov.Tensor(pixels, shared_memory=True))
        if self._recurrent:
            request.set_tensor("before", ov.Tensor(before, shared_memory=True))
            state, after = self._ports
            if self._state is None:
                state.data[:] = 0
            elif not np.may_share_memory(self._state, state.data):
                seen, _, _ = folded_size(tile, self._fold)
                state.data[:] = self._state[*seen, :]
            request.set_tensor("state", state)
            request.set_tensor("state_out", after)
        request.infer()
        made = self._ports[1].data if self._recurrent else None
        return request.get_tensor("sr").data[0].copy(), made

    def _compile(self, frame: Pixels) -> None:
        import openvino as ov

        compiled = openvino_core().compile_model(
            self._for_frames(frame),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": self._threads,
                # Half precision is slower on most CPUs and would change the picture.
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        self._request = compiled.create_infer_request()
        self._shape = ((1, *frame.shape), frame.dtype)
        if self._recurrent:
            port = compiled.input("state")
            kind = port.get_element_type().to_dtype()
            self._ports = [ov.Tensor(np.zeros(port.shape, kind)) for _ in range(2)]
            self._fold = frame.shape[0] // port.shape[1]

    def _for_frames(self, frame: Pixels) -> ov.Model:
        # Sixteen bits would be rounded to eight: they take the float graph.
        saved = self._int8 if self._int8 and frame.dtype == np.uint8 else self._model.graph
        graph = build_graph(self._model) if saved is None else openvino_core().read_model(saved)
        if self._recurrent and "before" not in {name for i in graph.inputs for name in i.names}:
            raise WeightsError(
                f"{saved}: built by an earlier sharpreel. Build it again from its weights "
                "with `sharpreel export`."
            )
        return with_integers(graph, self.scale, frame.shape, frame.dtype)

    def _plenty(self, pixels: int) -> int:
        return pixels << 14

    def _needed(self, height: int, width: int) -> int:
        blank = np.broadcast_to(np.uint8(0), (height, width, 3))
        return graph_bytes(self._for_frames(blank))

    def _free(self) -> int | None:
        return free_bytes()


@functools.cache
def openvino_core() -> ov.Core:
    """The one OpenVINO runtime of this process; it is never let go.

    Each runtime gives its thread a stack for signal handlers. When the first of two goes before
    the second, the second puts the freed one back, and the next signal (Ctrl-C) is a crash.
    """
    import openvino as ov

    return ov.Core()
