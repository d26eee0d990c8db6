"""Runs a network on integer frames, carrying its state, as fast as the device allows.

Two engines, one contract: `OpenVinoEngine` runs saved graphs on a CPU and needs no torch;
`TorchEngine` runs any network on a CPU or a GPU and is the reference. Both take an RGB frame
(H, W, 3), uint8 or uint16, and return (sH, sW, 3) of the same type.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from sharpreel import memory, ops, windows
from sharpreel.errors import DeviceError, MissingExtra, UsageError, WeightsError
from sharpreel.models import MODELS
from sharpreel.models.graph import with_integers
from sharpreel.ops import Frame
from sharpreel.video import usable_cpus
from sharpreel.weights import Model, build_graph
from sharpreel.windows import Tile

if TYPE_CHECKING:
    import openvino as ov
    from torch import Tensor, nn


class Engine(Protocol):
    """What `upscale.py` asks of an engine.

    Attributes:
        warm_up: Frames it must see before a frame, started anew, to make the same picture.
        clip_len: Frames it makes at once by `run_clip`; 0: one at a time by `run`, with a state.
        past, future: Neighbours that `run_clip` looks at beside the frames it makes.
        tile: Side in lr pixels of the tiles that frames are cut to, 0 for whole frames, None
            while that is not decided. It may shrink on the way, when memory does not suffice.
        sharers: Processes that share the device's memory; each takes its part.
    """

    name: str
    scale: float
    warm_up: int
    clip_len: int
    past: int
    future: int
    tile: int | None
    sharers: int

    def reset(self) -> None:
        """Forget what was seen: the next frame begins a scene."""

    def fit(self, height: int, width: int) -> None:
        """Decide the tile for frames of this size, where that is not done, and run nothing."""

    def run(self, frame: Frame) -> Frame:
        """(H, W, 3) -> (scale * H, scale * W, 3), same integer type; H and W stay the same."""

    def run_clip(self, frames: list[Frame], first: int, count: int) -> list[Frame]:
        """Enlarge frames[first : first + count]; the others are neighbours of the same scene."""


SOFT_OVERLAP = 32  # lr pixels, for networks that see farther than a tile can be wide
HALF_DB = 50.0  # PSNR between pictures in half and in full precision, at the least
FARTHEST = 64  # lr pixels: a network that sees no farther gets tiles that join exactly


class TiledEngine:
    """What both engines share: a frame goes through the network whole, or tile by tile.

    Tiles overlap by as much as the network sees (`ModelSpec.reach`), so that the picture is the
    same; where it sees too far for that, they fade into each other. They are chosen at the first
    frame by what memory there is, and halved when it does not suffice after all: the same frame
    is tried again, and none is ever left out.

    Args:
        tile: Side in lr pixels, 0 for whole frames, None to choose.
        max_memory: Bytes that the network may take for one frame; None: most of what is free.

    Raises:
        UsageError: The tile is too small for this network.
    """

    def __init__(self, model: Model, tile: int | None, max_memory: int | None) -> None:
        self.scale, self.tile = model.scale, tile
        self.sharers = 1
        self._max_memory, self._title = max_memory, model.name
        self._multiple = model.spec.multiple_of
        self._overlap, self._soft, self._step = tile_geometry(model)
        check_tile(model, tile)

    @property
    def _smallest(self) -> int:
        return windows.smallest_side(self._overlap, self._step)

    def _needed(self, height: int, width: int) -> int:
        """Bytes that a frame of this size takes."""
        raise NotImplementedError

    def _free(self) -> int | None:
        """Bytes that the device has left."""
        raise NotImplementedError

    def _plenty(self, pixels: int) -> int:
        """Bytes that surely suffice, so that nothing must be reckoned."""
        raise NotImplementedError

    def _pictures(
        self, frame: Frame, begin: Callable[[], Callable[[Tile], list[Frame]]]
    ) -> list[Frame]:
        """The pictures that the network makes, for frames like this one.

        Args:
            begin: Starts from what was known before these frames, and returns what makes the
                pictures of one tile. It is called again when memory did not suffice.
        """
        height, width = frame.shape[:2]
        high, wide = ops.enlarged(height, self.scale), ops.enlarged(width, self.scale)
        # What the network is given: both sides a multiple of what it needs.
        rows, columns = self._padded(height), self._padded(width)
        while True:
            self.fit(height, width)
            side = self.tile or max(rows, columns)
            parts = windows.tiles(rows, columns, side, self._overlap, self._step or 1, self._soft)
            try:
                return self._by_tiles(parts, begin(), (high, wide, 3), frame.dtype)
            except (MemoryError, RuntimeError) as e:
                if not out_of_memory(e):
                    raise
                shortage = e.with_traceback(None)  # which would hold the tensors
            self._give_back()
            self._shrink(rows, columns, shortage)

    def _by_tiles(
        self,
        parts: Sequence[Tile],
        make: Callable[[Tile], list[Frame]],
        shape: tuple[int, int, int],
        dtype: Any,
    ) -> list[Frame]:
        if len(parts) == 1:
            return [picture[: shape[0], : shape[1]] for picture in make(parts[0])]
        pictures: list[Frame] = []
        for part in parts:
            made = make(part)
            pictures = pictures or [np.empty(shape, dtype) for _ in made]
            for picture, one in zip(pictures, made, strict=True):
                windows.paste(picture, one, part, self.scale)
        return pictures

    def _give_back(self) -> None:
        """Free what is kept from frame to frame and is not needed, after a shortage."""

    def fit(self, height: int, width: int) -> None:
        if self.tile is None:
            self.tile = self._choose(self._padded(height), self._padded(width))

    def _padded(self, side: int) -> int:
        return ops.padded_side(side, self._multiple)

    def _choose(self, height: int, width: int) -> int:
        """The largest tile that fits into memory, 0 for the whole frame."""
        budget = self._max_memory
        if budget is None:
            free = self._free()
            budget = None if free is None else round(free * memory.SHARE / self.sharers)
        if budget is None or self._step == 0 or budget >= self._plenty(height * width):
            return 0
        side = max(height, width)
        while self._needed(min(side, height), min(side, width)) > budget:
            if side == self._smallest:
                if self._max_memory is None:
                    break  # perhaps it works all the same
                need = self._needed(min(side, height), min(side, width)) / 2**20
                raise DeviceError(
                    f"--max-memory {budget / 2**20:.0f}M is too little: {self._title} needs about "
                    f"{need:.0f} MiB even for tiles of {side} pixels."
                )
            side = self._half(side)
        return 0 if side >= max(height, width) else side

    def _half(self, side: int) -> int:
        return max(side // 2 // self._step * self._step, self._smallest)

    def _shrink(self, height: int, width: int, shortage: Exception) -> None:
        """Halve the tile after memory did not suffice.

        Raises:
            DeviceError: It is as small as it can be.
        """
        side = min(self.tile or max(height, width), max(height, width))
        if self._step == 0 or side <= self._smallest:
            raise DeviceError(
                f"Out of memory at {width}x{height}, even in tiles of {side} pixels. Close other "
                "programs, or use another device or a smaller network."
            ) from shortage
        self.tile = self._half(side)


def tile_geometry(model: Model) -> tuple[int, bool, int]:
    """How a network's tiles are cut.

    Returns:
        Overlap in lr pixels, whether tiles fade into each other, and what their first pixels are
        multiples of: where the factor makes whole pixels, and where the network may be cut; 0 when
        no such place is near.
    """
    reach = None if model.spec.reach is None else model.spec.reach(model.arguments)
    soft = reach is None or reach > FARTHEST
    factor = Fraction(model.scale).limit_denominator(64)
    exact = float(factor) == model.scale
    step = math.lcm(model.spec.multiple_of, factor.denominator) if exact else 0
    return (SOFT_OVERLAP if reach is None or soft else reach), soft, step


def check_tile(model: Model, tile: int | None) -> None:
    """Raise UsageError unless a network can run in tiles of this side (None, 0: no tiles asked)."""
    overlap, _, step = tile_geometry(model)
    if not tile:
        return
    if step == 0:
        raise UsageError(f"--tile: factor {model.scale:g} makes no whole pixels; leave it out.")
    smallest = windows.smallest_side(overlap, step)
    if tile < smallest:
        raise UsageError(
            f"--tile {tile} is too small: {model.name} needs to see {overlap} pixels "
            f"beyond what a tile shows. Give {smallest} or more, or auto."
        )


def check_graph(model: Model, precision: str) -> None:
    """Raise UsageError unless OpenVINO can run a network in this precision."""
    if precision == "int8" and model.int8 is None:
        of_ours = model.spec.build is MODELS["reel"].build
        build = ", or build one with `sharpreel export --precision int8`" if of_ours else ""
        raise UsageError(f"{model.name} has no int8 graph; use --precision float32{build}.")
    if precision != "int8" and not model.has_graph:
        build = "" if model.spec.recurrent else "build one with `sharpreel export`, or "
        raise UsageError(f"{model.name} has no saved graph; {build}use --engine torch.")


def out_of_memory(error: Exception) -> bool:
    """Does this error mean that memory did not suffice?"""
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    known = ("out of memory", "can't allocate", "cannot allocate", "not enough memory", "bad_alloc",
             "bad allocation")  # fmt: skip
    return type(error).__name__ == "OutOfMemoryError" or any(k in words for k in known)


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
        check_graph(model, precision)
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
        self._before: Frame | None = None  # the last frame, padded
        self._state: npt.NDArray[Any] | None = None  # of the whole frame, (1, H / fold, ...)
        self._fold = 1  # lr pixels that one pixel of the state stands for

    def reset(self) -> None:
        self._state = self._before = None

    def run(self, frame: Frame) -> Frame:
        padded = ops.pad_to_multiple(frame, self._multiple)
        if self._before is not None and padded.shape != self._before.shape:
            self.reset()
        before = padded if self._before is None else self._before
        after = self._state

        def begin() -> Callable[[Tile], list[Frame]]:
            nonlocal after
            after = None

            def make(tile: Tile) -> list[Frame]:
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
                _, shown, inner = _folded(tile, self._fold)
                after[*shown, :] = state[*inner, :]
                return [sr]

            return make

        picture = self._pictures(frame, begin)[0]
        self._state = after
        if self._recurrent:
            self._before = padded.copy() if padded is frame else padded
        return picture

    def run_clip(self, frames: list[Frame], first: int, count: int) -> list[Frame]:
        """Saved graphs take one frame at a time."""
        raise NotImplementedError

    def _sides(self, padded: Frame) -> tuple[int, int]:
        return padded.shape[0] // self._fold, padded.shape[1] // self._fold

    def _infer(
        self, pixels: Frame, before: Frame, tile: Tile
    ) -> tuple[Frame, npt.NDArray[Any] | None]:
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
                seen, _, _ = _folded(tile, self._fold)
                state.data[:] = self._state[*seen, :]
            request.set_tensor("state", state)
            request.set_tensor("state_out", after)
        request.infer()
        made = self._ports[1].data if self._recurrent else None
        return request.get_tensor("sr").data[0].copy(), made

    def _compile(self, frame: Frame) -> None:
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

    def _for_frames(self, frame: Frame) -> ov.Model:
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
        return memory.graph_bytes(self._for_frames(blank))

    def _free(self) -> int | None:
        return memory.free_bytes()


@functools.cache
def openvino_core() -> ov.Core:
    """The one OpenVINO runtime of this process; it is never let go.

    Each runtime gives its thread a stack for signal handlers. When the first of two goes before
    the second, the second puts the freed one back, and the next signal (Ctrl-C) is a crash.
    """
    import openvino as ov

    return ov.Core()


class TorchEngine(TiledEngine):
    """Any network of the table by torch: on a CPU the reference, on a GPU the fast one.

    On a GPU one step of a recurrent network is a CUDA graph where it can be captured.

    Args:
        module: The network, when it is not the one in the model's file (in training).
        tile, max_memory: See `TiledEngine`.
        precision: "float32"; "float16", half precision for frames of eight bits; or "auto", which
            is "float16" on a GPU if a short trial shows the same picture (`HALF_DB`).
        threads: Processor threads on a CPU, by default all this process may use.

    Raises:
        MissingExtra: torch is not installed.
        DeviceError: CUDA is asked for and not there.
    """

    def __init__(
        self,
        model: Model,
        device: str = "cpu",
        module: nn.Module | None = None,
        tile: int | None = None,
        max_memory: int | None = None,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        try:
            import torch
        except ImportError as e:
            raise MissingExtra("The torch engine", "torch") from e
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError(NO_GPU)
        super().__init__(model, tile, max_memory)
        self.name = f"torch-{device}"
        self._torch, self._device = torch, torch.device(device)
        spec = model.spec
        self._recurrent = spec.recurrent
        self._module: Any = (module or model.module()).to(self._device)
        if getattr(self._module, "grey", False):
            from sharpreel.models.layers import OnColour

            self._module = OnColour(self._module)
        self.warm_up, self.clip_len = spec.warm_up, spec.clip_len
        self.past = self.future = spec.overlap
        if self._recurrent is None:
            self.past = getattr(self._module, "past", 0)
            self.future = getattr(self._module, "future", 0)
            at_once = getattr(self._module, "at_once", 1)
            self.clip_len = at_once if self.past or self.future else 0
        if device == "cpu":
            torch.set_num_threads(threads or usable_cpus())
        else:
            self._module.to(memory_format=torch.channels_last)
        self._state: Any = None
        self._captured: Captured | None = None
        self._in_half = precision == "float16"
        if precision == "auto" and device == "cuda":
            self._in_half = self._half_suffices()
        if self._in_half:
            self.name += "-float16"

    def _half_suffices(self) -> bool:
        """Does half precision make the same picture of a texture that slides?"""
        side = 32
        noise = np.random.default_rng(0).integers(0, 256, (side // 4, side // 2, 3), np.uint8)
        wide = ops.resize(noise, side, 2 * side)
        frames = [np.ascontiguousarray(wide[:, 2 * k : 2 * k + side]) for k in range(4)]
        made, tile = [], self.tile
        for half in (False, True):
            self._in_half, self.tile = half, 0
            self.reset()
            if self.clip_len:
                made.append(self.run_clip(frames, 1, 2))
            else:
                made.append([self.run(frame) for frame in frames])
        self.reset()
        self.tile = tile
        difference = np.stack(made[0]).astype(np.float32) - np.stack(made[1])
        return float(np.mean(difference**2)) <= 255**2 / 10 ** (HALF_DB / 10)

    def reset(self) -> None:
        self._state = None

    def run(self, frame: Frame) -> Frame:
        if self._recurrent == "both":
            return self.run_clip([frame], 0, 1)[0]
        if self._recurrent is None:
            return self._on_pictures([frame], self._alone)[0]
        after: list[Tensor] = []

        def causal(clip: Tensor) -> Callable[[Tile], Tensor]:
            lr = clip[:, 0]
            before = self._module.zero_state(lr) if self._state is None else self._state
            fold = lr.shape[-1] // before.shape[-1]
            after[:] = [self._torch.empty_like(before)]

            def on(tile: Tile) -> Tensor:
                seen, shown, inner = _folded(tile, fold)
                part = _crop(lr, tile)
                step = self._whole if part.shape == lr.shape else self._module.step
                sr, state = step(part, before[seen])
                after[0][shown] = state[inner]
                picture: Tensor = sr[:, None]
                return picture

            return on

        picture = self._on_pictures([frame], causal)[0]
        self._state = after[0]
        return picture

    @property
    def keeps_state(self) -> bool:
        """Does the network see what was by a state, and nothing of what comes?"""
        return self._recurrent == "causal"

    def run_batch(
        self, frames: Sequence[Frame], states: Sequence[Tensor | None]
    ) -> tuple[list[Frame], list[Tensor]]:
        """One frame of each of several videos at once, whole, by a network that keeps a state.

        Args:
            frames: (H, W, 3), of one size and type.
            states: Of each video, as this returned it for the frame before; None: it begins.

        Returns:
            The pictures and the next states.

        Raises:
            DeviceError: There is not enough memory for so many.
        """
        height, width = frames[0].shape[:2]
        high, wide = ops.enlarged(height, self.scale), ops.enlarged(width, self.scale)
        with self._running(frames[0].dtype):
            try:
                lr = self._on_device(frames)
                before = [
                    self._module.zero_state(lr[k : k + 1]) if state is None else state
                    for k, state in enumerate(states)
                ]
                sr, after = self._whole(lr, self._torch.cat(before))
                pictures = self._as_integers(sr, frames[0].dtype)
                following = [after[k : k + 1].clone() for k in range(len(frames))]
            except (MemoryError, RuntimeError) as e:
                if not out_of_memory(e):
                    raise
                raise DeviceError(
                    f"Out of memory at {len(frames)} frames of {width}x{height} at once. Give a "
                    "smaller --batch."
                ) from None
        return [picture[:high, :wide] for picture in pictures], following

    def _whole(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of a causal network on a whole frame, by one launch where that is possible."""
        if self._device.type != "cuda":
            made: tuple[Tensor, Tensor] = self._module.step(frame, state)
            return made
        half = self._torch.is_autocast_enabled("cuda")
        if self._captured is None or not self._captured.fits(frame, state, half):
            self._captured = Captured(self._module.step, frame, state, half)
        return self._captured(frame, state)

    def run_clip(self, frames: list[Frame], first: int, count: int) -> list[Frame]:
        if self._recurrent is None:
            return self._on_pictures(frames, lambda clip: self._windows(clip, first, count))

        def both(clip: Tensor) -> Callable[[Tile], Tensor]:
            return lambda tile: self._module(_crop(clip, tile))[:, first : first + count]

        return self._on_pictures(frames, both)

    def _alone(self, clip: Tensor) -> Callable[[Tile], Tensor]:
        """Each frame of a clip by itself."""
        if self.past or self.future:
            return self._windows(clip, 0, clip.shape[1])
        return lambda tile: self._module(_crop(clip, tile))

    def _windows(self, clip: Tensor, first: int, count: int) -> Callable[[Tile], Tensor]:
        """Frames of a clip, each from the window of its neighbours."""
        module, flows = self._module, None
        if hasattr(module, "flows"):  # looked for in the whole frame, and cut with it
            flows = module.flows(clip, first, count)

        def on(tile: Tile) -> Tensor:
            more = [] if flows is None else [_crop(flows, tile)]
            made: Tensor = module.along(_crop(clip, tile), first, count, *more)
            return made

        return on

    def _on_pictures(
        self, frames: list[Frame], network: Callable[[Tensor], Callable[[Tile], Tensor]]
    ) -> list[Frame]:
        """Integer frames -> float clip (1, T, 3, H, W) -> network, by tiles -> integer frames."""

        def begin() -> Callable[[Tile], list[Frame]]:
            on = network(self._on_device(frames)[None])
            return lambda tile: self._as_integers(on(tile)[0], frames[0].dtype)

        with self._running(frames[0].dtype):
            return self._pictures(frames[0], begin)

    def _on_device(self, frames: Sequence[Frame]) -> Tensor:
        """Integer frames -> (T, 3, H, W) in [0, 1], padded; they travel as integers."""
        padded = np.stack([ops.pad_to_multiple(f, self._multiple) for f in frames])
        small = padded.dtype == np.uint8
        clip = self._torch.from_numpy(padded if small else padded.astype(np.int32))
        top = float(np.iinfo(padded.dtype).max)
        return (clip.to(self._device).float() / top).permute(0, 3, 1, 2)

    def _as_integers(self, pictures: Tensor, dtype: Any) -> list[Frame]:
        """(T, 3, H, W) -> integer frames of this type; they travel as integers."""
        top = float(np.iinfo(dtype).max)
        kind = self._torch.uint8 if dtype == np.uint8 else self._torch.int32
        levels = (pictures.permute(0, 2, 3, 1).float() * top).clamp(0, top).round().to(kind)
        return list(levels.cpu().numpy().astype(dtype, copy=False))

    @contextlib.contextmanager
    def _running(self, dtype: Any) -> Iterator[None]:
        """What holds while the network runs: no gradients, and its precision."""
        torch, half = self._torch, self._in_half and dtype == np.uint8
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.float16, enabled=half, cache_enabled=False),
            _all_of_float32(),
        ):
            yield

    def _give_back(self) -> None:
        self._captured = None  # its buffers are a whole frame's
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

    def _plenty(self, pixels: int) -> int:
        return pixels << 18

    def _needed(self, height: int, width: int) -> int:
        if self._recurrent == "both":
            few, more = (self._traced(height, width, t) for t in (2, 4))
            return round(few + (more - few) / 2 * (self.clip_len + self.past + self.future - 2))
        return self._traced(height, width, 1)

    def _traced(self, height: int, width: int, frames: int) -> int:
        """Bytes by a run without contents."""
        torch, module = self._torch, self._module
        size = (height, width)

        def call() -> Any:
            clip = torch.zeros(1, frames, 3, *size, device=self._device)
            if self._recurrent == "causal":
                return module.step(clip[:, 0], module.zero_state(clip[:, 0]))
            near = self.past + self.future
            if self._recurrent is None and near:
                count = self.clip_len
                clip = torch.zeros(1, near + count, 3, *size, device=self._device)
                flows = torch.zeros(1, count, near, 2, *size, device=self._device)
                more = [flows] if hasattr(module, "flows") else []
                return module.along(clip, self.past, count, *more)
            return module(clip)

        return memory.torch_bytes(call)

    def _free(self) -> int | None:
        if self._device.type == "cuda":
            free: int = self._torch.cuda.mem_get_info()[0]
            return free
        return memory.free_bytes()


@contextlib.contextmanager
def _all_of_float32() -> Iterator[None]:
    """On a GPU float32 with its 24 bits: by default convolutions there keep eleven of them."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class Captured:
    """A step of a recurrent network as a CUDA graph: one launch in the place of dozens.

    The graph is compared with the step itself when it is captured. A step that cannot be captured,
    or whose graph makes something else, is run as it is.

    Args:
        step: (frame, state) -> (picture, next state), of tensors on the GPU.
        frame, state: Of the shapes to come.
        half: Which of two graphs this is, where a step is run in both precisions.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        frame: Tensor,
        state: Tensor,
        half: bool,
    ) -> None:
        self._step, self._half = step, half
        self._frame, self._state = frame.clone(), state.clone()
        self._made: tuple[Tensor, Tensor] | None = None
        try:
            self._capture()
        except RuntimeError:  # of the driver, or of an operation that waits for the processor
            self._made = None

    def _capture(self) -> None:
        import torch

        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # until every library has picked its kernels
                wanted = self._step(self._frame, self._state)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            made = self._step(self._frame, self._state)
        self._graph.replay()
        if all(torch.allclose(a, b, atol=2e-3) for a, b in zip(made, wanted, strict=True)):
            self._made = made

    def fits(self, frame: Tensor, state: Tensor, half: bool) -> bool:
        """Was it captured for such tensors?"""
        return (self._frame.shape, self._state.shape, self._half) == (
            frame.shape, state.shape, half
        )  # fmt: skip

    def __call__(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The picture and the next state, which hold until the next call."""
        if self._made is None:
            return self._step(frame, state)
        self._frame.copy_(frame)
        self._state.copy_(state)
        self._graph.replay()
        return self._made


def _folded(tile: Tile, fold: int) -> tuple[Any, Any, Any]:
    """Of a state whose pixels stand for fold x fold lr pixels, in both axes: what a tile sees,
    what it shows, and where that lies in the tile's own state, as indices."""
    axes = (tile.rows, tile.columns)
    return (
        (..., *(slice(a.start // fold, a.stop // fold) for a in axes)),
        (..., *(slice(a.first // fold, a.last // fold) for a in axes)),
        (..., *(slice((a.first - a.start) // fold, (a.last - a.start) // fold) for a in axes)),
    )


def _crop(tensor: Tensor, tile: Tile) -> Tensor:
    rows, columns = tile.seen
    return tensor[..., rows, columns]


# Of NVIDIA's driver, of Windows' for Linux within it, and of boards with the GPU on the chip.
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl", "/dev/nvhost-ctrl-gpu", "/dev/nvmap")


def cuda_available() -> bool:
    """Is there a GPU that torch can use? False without torch; torch is imported only here."""
    if os.name != "nt" and not any(map(os.path.exists, GPU_FILES)):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


NO_GPU = "--device cuda: torch finds no CUDA GPU. Use --device cpu."
PRECISIONS = ("auto", "float32", "float16", "int8")


def check_choice(device: str, engine: str, precision: str = "auto") -> None:
    """Raise UsageError unless these are known and go together."""
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision} is not known; choose {', '.join(PRECISIONS)}.")
    if precision == "int8" and (device == "cuda" or engine == "torch"):
        raise UsageError("--precision int8 runs on the CPU by OpenVINO, and nowhere else.")
    if precision == "float16" and (device == "cpu" or engine == "openvino"):
        raise UsageError("--precision float16 is for GPUs: it is slower on a CPU.")
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device} is not known; choose auto, cpu or cuda.")
    if engine not in ("auto", "openvino", "torch"):
        raise UsageError(f"--engine {engine} is not known; choose auto, openvino or torch.")
    if engine == "openvino" and device == "cuda":
        raise UsageError("--engine openvino runs on the CPU; use --engine torch for CUDA.")


@dataclass(frozen=True)
class Choice:
    """What will run a network, and why that. `engine` is "openvino" or "torch"."""

    engine: str
    device: str
    precision: str
    why: str


def choose(
    model: Model, device: str = "auto", engine: str = "auto", precision: str = "auto"
) -> Choice:
    """The fastest way to run a network on a device, as far as it keeps to the network's picture.

    Arguments and errors: see `choose_engine`.
    """
    check_choice(device, engine, precision)
    if precision == "int8":
        device, engine = "cpu", "openvino"
    on_cuda = device == "cuda" or (device == "auto" and engine != "openvino" and cuda_available())
    if on_cuda:
        why = "a GPU is there, and half precision makes the same picture where it is used"
        if precision == "float32" or device == "cuda":
            why = "asked for"
        return Choice("torch", "cuda", precision, why)
    if precision == "float16":
        raise DeviceError("--precision float16 is for GPUs, and torch finds none.")
    if engine == "torch" or (engine == "auto" and not model.has_graph):
        why = "asked for" if engine == "torch" else f"{model.name} has no graph for OpenVINO"
        return Choice("torch", "cpu", "float32", why)
    if precision != "auto":
        return Choice("openvino", "cpu", precision, "asked for")
    against = _against_int8(model)
    if against or model.int8 is None:
        return Choice("openvino", "cpu", "float32", against)
    loss = f"at most {loss_db(model.int8):.2f} dB below float32 on real clips, and faster"
    return Choice("openvino", "cpu", "int8", loss)


def choose_engine(
    model: Model,
    device: str = "auto",
    engine: str = "auto",
    tile: int | None = None,
    max_memory: int | None = None,
    precision: str = "auto",
    threads: int | None = None,
) -> Engine:
    """The engine that `choose` chooses.

    Args:
        device: "auto" (a GPU when torch and one are there), "cpu" or "cuda".
        engine: "auto", "openvino" or "torch".
        tile: Side of the tiles in lr pixels, 0 for whole frames, None to choose by memory.
        max_memory: Bytes that the network may take for one frame; None: most of what is free.
        precision: "float32", "float16" (GPU), "int8" (CPU) or "auto": int8 where the network has
            such a graph, which it has only when that was measured to be close enough
            (`quantize.py`), and on a GPU float16 where a trial shows that.
        threads: Processor threads, by default all this process may use. OpenVINO's picture does
            not depend on them; the last bits of torch's may.

    Raises:
        UsageError: No such engine, device or precision, or not for this network.
        DeviceError: The device is not there.
    """
    chosen = choose(model, device, engine, precision)
    if chosen.engine == "openvino":
        return OpenVinoEngine(model, threads, tile, max_memory, chosen.precision)
    return TorchEngine(
        model, chosen.device, tile=tile, max_memory=max_memory, precision=chosen.precision,
        threads=threads,
    )  # fmt: skip


def refuse(
    model: Model, device: str = "auto", engine: str = "auto", precision: str = "auto"
) -> None:
    """Raise what `choose_engine` would, without loading a network or a library."""
    chosen = choose(model, device, engine, precision)
    if chosen.engine == "openvino":
        check_graph(model, chosen.precision)
    elif importlib.util.find_spec("torch") is None:
        raise MissingExtra("The torch engine", "torch")
    elif chosen.device == "cuda" and not cuda_available():
        raise DeviceError(NO_GPU)


def _against_int8(model: Model) -> str:
    """Why OpenVINO does not run a network in int8; "" when it does."""
    if model.int8 is None:
        return "there is no int8 graph of this network"
    if "INT8" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "this processor has no fast int8"
    return ""


def loss_db(graph: Path) -> float:
    """The largest mean loss against float32 that was measured when an int8 graph was built.

    It stands at the end of the graph's file, which is not read as a graph: that takes longer.
    """
    said = re.search(r'<loss_db value="([^"]*)"', graph.read_text())
    if said is None:
        raise WeightsError(f"{graph}: not an int8 graph of sharpreel; export it again.")
    return max(float(value) for value in said[1].split())
