"""Captures one step of a recurrent network as a CUDA graph: `CudaGraphStep`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class CudaGraphStep:
    """A step of a recurrent network as a CUDA graph: one launch instead of dozens.

    The graph is compared with the step itself when it is captured. A step that cannot be captured,
    or whose graph gives another result, is run without a graph.

    Args:
        step: (frame, state) -> (output, next state), of tensors on the GPU.
        frame, state: Tensors of the shapes that the graph is captured for.
        half: Is the step run in half precision?
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
        self._result: tuple[Tensor, Tensor] | None = None  # buffers that a replay fills
        try:
            self._capture()
        except RuntimeError:  # of the driver, or of an operation that waits for the CPU
            self._result = None

    def _capture(self) -> None:
        import torch

        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # until every library has chosen its kernels
                wanted = self._step(self._frame, self._state)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            result = self._step(self._frame, self._state)
        self._graph.replay()
        if all(torch.allclose(a, b, atol=2e-3) for a, b in zip(result, wanted, strict=True)):
            self._result = result

    def fits(self, frame: Tensor, state: Tensor, half: bool) -> bool:
        """Was it captured for tensors of these shapes, in this precision?"""
        captured = (self._frame.shape, self._state.shape, self._half)
        return captured == (frame.shape, state.shape, half)

    def __call__(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the step; the output and the next state are valid until the next call."""
        if self._result is None:
            return self._step(frame, state)
        self._frame.copy_(frame)
        self._state.copy_(state)
        self._graph.replay()
        return self._result
