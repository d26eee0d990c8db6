"""Runs a network with PyTorch on the CPU or a GPU: `TorchEngine`.

integer frames -> float clip on the device -> network, in tiles if needed -> integer frames
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpreel import ops
from sharpreel.engines.base import EngineKind
from sharpreel.engines.cuda_graph import CudaGraphStep
from sharpreel.engines.memory import torch_bytes
from sharpreel.engines.tiles import Tile, crop, state_indices
from sharpreel.engines.tiling import TiledEngine, is_out_of_memory
from sharpreel.errors import DeviceError, MissingExtra
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.system.resources import NO_GPU, free_bytes, usable_cpus

if TYPE_CHECKING:
    from torch import Tensor, nn


HALF_DB = 50.0  # least PSNR between outputs in half and in full precision

ClipNetwork = Callable[[Tile], "Tensor"]  # the output (1, T, 3, sH, sW) for one tile of a clip


class TorchEngine(TiledEngine):
    """Runs any network of `MODELS`: the reference on a CPU, the fast engine on a GPU.

    On a GPU one step of a recurrent network is a CUDA graph where it can be captured.

    Args:
        device: "cpu" or "cuda".
        module: The network, when it is not the one in the model's file (in training).
        tile, max_memory: See `TiledEngine`.
        precision: "float32"; "float16", half precision for frames of eight bits; or "auto", which
            is "float16" on a GPU if a short trial shows the same output (`HALF_DB`).
        threads: CPU threads, by default all this process may use.

    Raises:
        MissingExtra: PyTorch is not installed.
        DeviceError: CUDA is requested and not available.
        UsageError: The tile is too small for this network.
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
            raise MissingExtra("engine='torch'", "torch") from e
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError(NO_GPU)
        super().__init__(model, tile, max_memory)
        self._torch, self._device = torch, torch.device(device)
        spec = model.spec
        self._recurrent = spec.recurrent
        self._module: Any = (module or model.module()).to(self._device)
        if getattr(self._module, "grey", False):
            from sharpreel.models.layers import LumaNetwork

            self._module = LumaNetwork(self._module)
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
        self._captured: CudaGraphStep | None = None
        self._half_precision = precision == "float16"
        if precision == "auto" and device == "cuda":
            self._half_precision = self._half_suffices()
        self.kind = EngineKind(
            "torch",
            "cuda" if device == "cuda" else "cpu",
            "float16" if self._half_precision else "float32",
        )

    def _half_suffices(self) -> bool:
        """Does half precision give the same output for a sliding texture?"""
        side = 32
        noise = np.random.default_rng(0).integers(0, 256, (side // 4, side // 2, 3), np.uint8)
        wide = ops.resize(noise, side, 2 * side)
        frames = [np.ascontiguousarray(wide[:, 2 * k : 2 * k + side]) for k in range(4)]
        outputs, tile = [], self.tile
        for half in (False, True):
            self._half_precision, self.tile = half, 0
            self.reset()
            if self.clip_len:
                outputs.append(self.run_clip(frames, 1, 2))
            else:
                outputs.append([self.run(frame) for frame in frames])
        self.reset()
        self.tile = tile
        difference = np.stack(outputs[0]).astype(np.float32) - np.stack(outputs[1])
        return float(np.mean(difference**2)) <= 255**2 / 10 ** (HALF_DB / 10)

    def reset(self) -> None:
        """Clear the state: the next frame begins a scene."""
        self._state = None

    def run(self, frame: Pixels) -> Pixels:
        """(H, W, 3) -> (scale * H, scale * W, 3), same integer type."""
        if self._recurrent == "both":
            return self.run_clip([frame], 0, 1)[0]
        if self._recurrent is None:
            return self._run_network([frame], self._each_alone)[0]
        with self._running(frame.dtype):
            (sr,), finished = self._run_tiles(frame, lambda: _CausalPass(self, frame))
        self._state = finished.state
        return sr

    @property
    def keeps_state(self) -> bool:
        """Is the network causal and recurrent (carries a state, needs no future frames)?"""
        return self._recurrent == "causal"

    def run_batch(
        self, frames: Sequence[Pixels], states: Sequence[Tensor | None]
    ) -> tuple[list[Pixels], list[Tensor]]:
        """Upscale one frame of each of several videos in one batch, by a network with a state.

        Args:
            frames: (H, W, 3), all of the same size and type.
            states: The state of each video, as returned for its previous frame; None: its first.

        Returns:
            The upscaled frames and the next states.

        Raises:
            DeviceError: There is not enough memory for a batch of this size.
        """
        height, width = frames[0].shape[:2]
        high, wide = ops.enlarged(height, self.scale), ops.enlarged(width, self.scale)
        with self._running(frames[0].dtype):
            try:
                lr = self._to_device(frames)
                previous = [
                    self._module.zero_state(lr[k : k + 1]) if state is None else state
                    for k, state in enumerate(states)
                ]
                sr, following = self._step_whole(lr, self._torch.cat(previous))
                outputs = self._to_integers(sr, frames[0].dtype)
                next_states = [following[k : k + 1].clone() for k in range(len(frames))]
            except (MemoryError, RuntimeError) as e:
                if not is_out_of_memory(e):
                    raise
                raise DeviceError(
                    f"Out of memory at batch={len(frames)} of {width}x{height} frames. Choose a "
                    "smaller `batch`."
                ) from None
        return [output[:high, :wide] for output in outputs], next_states

    def _step_whole(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of a causal network on a whole frame, by one launch where that is possible."""
        if self._device.type != "cuda":
            result: tuple[Tensor, Tensor] = self._module.step(frame, state)
            return result
        half = self._torch.is_autocast_enabled("cuda")
        if self._captured is None or not self._captured.fits(frame, state, half):
            self._captured = CudaGraphStep(self._module.step, frame, state, half)
        return self._captured(frame, state)

    def run_clip(self, frames: list[Pixels], first: int, count: int) -> list[Pixels]:
        """Upscale frames[first : first + count]; the others are neighbours of the same scene."""
        if self._recurrent is None:
            return self._run_network(frames, lambda clip: self._windows(clip, first, count))

        def whole_clip(clip: Tensor) -> ClipNetwork:
            return lambda tile: self._module(crop(clip, tile))[:, first : first + count]

        return self._run_network(frames, whole_clip)

    def _each_alone(self, clip: Tensor) -> ClipNetwork:
        """Each frame of a clip on its own."""
        if self.past or self.future:
            return self._windows(clip, 0, clip.shape[1])
        return lambda tile: self._module(crop(clip, tile))

    def _windows(self, clip: Tensor, first: int, count: int) -> ClipNetwork:
        """Frames of a clip, each from the window of its neighbours."""
        module, flows = self._module, None
        if hasattr(module, "flows"):  # estimated on whole frames, and cut with them
            flows = module.flows(clip, first, count)

        def run(tile: Tile) -> Tensor:
            more = [] if flows is None else [crop(flows, tile)]
            sr: Tensor = module.along(crop(clip, tile), first, count, *more)
            return sr

        return run

    def _run_network(
        self, frames: list[Pixels], network: Callable[[Tensor], ClipNetwork]
    ) -> list[Pixels]:
        """Integer frames -> float clip (1, T, 3, H, W) -> network, by tiles -> integer frames."""
        with self._running(frames[0].dtype):
            return self._run_tiles(frames[0], lambda: _ClipPass(self, frames, network))[0]

    def _to_device(self, frames: Sequence[Pixels]) -> Tensor:
        """Integer frames -> (T, 3, H, W) in [0, 1], padded; they are copied as integers."""
        padded = np.stack([ops.pad_to_multiple(f, self._multiple) for f in frames])
        small = padded.dtype == np.uint8
        clip = self._torch.from_numpy(padded if small else padded.astype(np.int32))
        top = float(np.iinfo(padded.dtype).max)
        return (clip.to(self._device).float() / top).permute(0, 3, 1, 2)

    def _to_integers(self, sr: Tensor, dtype: Any) -> list[Pixels]:
        """(T, 3, H, W) -> integer frames of this type; they are copied as integers."""
        top = float(np.iinfo(dtype).max)
        kind = self._torch.uint8 if dtype == np.uint8 else self._torch.int32
        levels = (sr.permute(0, 2, 3, 1).float() * top).clamp(0, top).round().to(kind)
        return list(levels.cpu().numpy().astype(dtype, copy=False))

    @contextlib.contextmanager
    def _running(self, dtype: Any) -> Iterator[None]:
        """A context in which the network runs: no gradients, and its precision."""
        torch, half = self._torch, self._half_precision and dtype == np.uint8
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.float16, enabled=half, cache_enabled=False),
            full_float32(),
        ):
            yield

    def _release_cache(self) -> None:
        self._captured = None  # it has buffers for a whole frame
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

    def _ample_bytes(self, pixels: int) -> int:
        return pixels << 18

    def _required_bytes(self, height: int, width: int) -> int:
        if self._recurrent == "both":
            two, four = (self._traced_bytes(height, width, t) for t in (2, 4))
            return round(two + (four - two) / 2 * (self.clip_len + self.past + self.future - 2))
        return self._traced_bytes(height, width, 1)

    def _traced_bytes(self, height: int, width: int, frames: int) -> int:
        """Bytes that a clip of this size needs, by running the network without data."""
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

        return torch_bytes(call)

    def _free_bytes(self) -> int | None:
        if self._device.type == "cuda":
            free: int = self._torch.cuda.mem_get_info()[0]
            return free
        return free_bytes()


class _ClipPass:
    """One pass of an engine's network over a clip.

    Args:
        network: From the clip (1, T, 3, H, W) to the function that runs the network on a tile.
    """

    def __init__(
        self,
        engine: TorchEngine,
        frames: list[Pixels],
        network: Callable[[Tensor], ClipNetwork],
    ) -> None:
        self._engine, self._dtype = engine, frames[0].dtype
        self._network = network(engine._to_device(frames)[None])

    def run(self, tile: Tile) -> list[Pixels]:
        return self._engine._to_integers(self._network(tile)[0], self._dtype)


class _CausalPass:
    """One frame's pass through a causal network; `state` becomes the engine's next state."""

    def __init__(self, engine: TorchEngine, frame: Pixels) -> None:
        self._engine, self._dtype = engine, frame.dtype
        self._lr = engine._to_device([frame])  # (1, 3, H, W)
        previous = engine._state
        self._previous = engine._module.zero_state(self._lr) if previous is None else previous
        self._fold = self._lr.shape[-1] // self._previous.shape[-1]
        self.state = engine._torch.empty_like(self._previous)

    def run(self, tile: Tile) -> list[Pixels]:
        engine, part = self._engine, crop(self._lr, tile)
        seen, shown, inner = state_indices(tile, self._fold)
        step = engine._step_whole if part.shape == self._lr.shape else engine._module.step
        sr, state = step(part, self._previous[seen])
        self.state[shown] = state[inner]
        return engine._to_integers(sr, self._dtype)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Compute in full float32 on a GPU, where convolutions use TF32 (11 bits of 24) by default."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
