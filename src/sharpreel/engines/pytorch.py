"""Runs a PyTorch module on the CPU or a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpreel import ops
from sharpreel.engines.memory import torch_bytes
from sharpreel.engines.tiling import Tile, TiledEngine, crop_frame, folded_size, out_of_memory
from sharpreel.errors import DeviceError, MissingExtra
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.system.resources import NO_GPU, free_bytes, usable_cpus

if TYPE_CHECKING:
    from torch import Tensor, nn


HALF_DB = 50.0  # PSNR between pictures in half and in full precision, at the least


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
        self._captured: CudaGraphStep | None = None
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

    def run(self, frame: Pixels) -> Pixels:
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
                seen, shown, inner = folded_size(tile, fold)
                part = crop_frame(lr, tile)
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
        self, frames: Sequence[Pixels], states: Sequence[Tensor | None]
    ) -> tuple[list[Pixels], list[Tensor]]:
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
            self._captured = CudaGraphStep(self._module.step, frame, state, half)
        return self._captured(frame, state)

    def run_clip(self, frames: list[Pixels], first: int, count: int) -> list[Pixels]:
        if self._recurrent is None:
            return self._on_pictures(frames, lambda clip: self._windows(clip, first, count))

        def both(clip: Tensor) -> Callable[[Tile], Tensor]:
            return lambda tile: self._module(crop_frame(clip, tile))[:, first : first + count]

        return self._on_pictures(frames, both)

    def _alone(self, clip: Tensor) -> Callable[[Tile], Tensor]:
        """Each frame of a clip by itself."""
        if self.past or self.future:
            return self._windows(clip, 0, clip.shape[1])
        return lambda tile: self._module(crop_frame(clip, tile))

    def _windows(self, clip: Tensor, first: int, count: int) -> Callable[[Tile], Tensor]:
        """Frames of a clip, each from the window of its neighbours."""
        module, flows = self._module, None
        if hasattr(module, "flows"):  # looked for in the whole frame, and cut with it
            flows = module.flows(clip, first, count)

        def on(tile: Tile) -> Tensor:
            more = [] if flows is None else [crop_frame(flows, tile)]
            made: Tensor = module.along(crop_frame(clip, tile), first, count, *more)
            return made

        return on

    def _on_pictures(
        self, frames: list[Pixels], network: Callable[[Tensor], Callable[[Tile], Tensor]]
    ) -> list[Pixels]:
        """Integer frames -> float clip (1, T, 3, H, W) -> network, by tiles -> integer frames."""

        def begin() -> Callable[[Tile], list[Pixels]]:
            on = network(self._on_device(frames)[None])
            return lambda tile: self._as_integers(on(tile)[0], frames[0].dtype)

        with self._running(frames[0].dtype):
            return self._pictures(frames[0], begin)

    def _on_device(self, frames: Sequence[Pixels]) -> Tensor:
        """Integer frames -> (T, 3, H, W) in [0, 1], padded; they travel as integers."""
        padded = np.stack([ops.pad_to_multiple(f, self._multiple) for f in frames])
        small = padded.dtype == np.uint8
        clip = self._torch.from_numpy(padded if small else padded.astype(np.int32))
        top = float(np.iinfo(padded.dtype).max)
        return (clip.to(self._device).float() / top).permute(0, 3, 1, 2)

    def _as_integers(self, pictures: Tensor, dtype: Any) -> list[Pixels]:
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
            full_float32(),
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

        return torch_bytes(call)

    def _free(self) -> int | None:
        if self._device.type == "cuda":
            free: int = self._torch.cuda.mem_get_info()[0]
            return free
        return free_bytes()


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """On a GPU float32 with its 24 bits: by default convolutions there keep eleven of them."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class CudaGraphStep:
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
